package agent

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// An ack whose answer is under way when the agent stops is not sent again after the restart; one that is never answered does not
// hold the stop up.
func TestAStopWaitsForTheAnswerToAnAckUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration // until the bus answers
		sent  []uint64
	}{
		"answered":       {answerGrace / 2, []uint64{7}},
		"never answered": {time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				entered := make(chan struct{})
				o := &outbox{
					publish: func(ctx context.Context, _ []byte, _ string) error {
						close(entered)
						select {
						case <-time.After(c.takes):
							return nil
						case <-ctx.Done():
							return ctx.Err()
						}
					},
					signer: foldtest.Signer(t, "one"), clock: time.Now,
					interval: time.Minute, log: zerolog.Nop(), wake: make(chan struct{}, 1),
				}
				o.put([]events.Ack{{Environment: "prod", Agent: "one", Number: 7, Word: events.WordApplied, First: 1, Last: 1}}, subject{revision: 1})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- o.run(ctx) }()
				<-entered
				began := time.Now()
				stop()
				if err := <-ended; err != nil || time.Since(began) > answerGrace {
					t.Errorf("it stopped after %s: %v", time.Since(began), err)
				}
				if got := o.taken(); !slices.Equal(got, c.sent) {
					t.Errorf("the bus has %v, want %v", got, c.sent)
				}
			})
		})
	}
}

func TestAnAckThatTheBusDoesNotTakeIsToldWithItsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		refused := true
		o := &outbox{
			publish: func(context.Context, []byte, string) error {
				if refused {
					refused = false
					return errors.New("no")
				}
				return nil
			},
			signer: foldtest.Signer(t, "one"), clock: time.Now, interval: time.Minute, log: zerolog.New(&said), wake: make(chan struct{}, 1),
		}
		o.put([]events.Ack{{Environment: "prod", Agent: "one", Number: 7, Word: events.WordApplied, First: 1, Last: 2}}, subject{2, "c1", "4bf9"})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- o.run(ctx) }()
		synctest.Wait()
		stop()
		if err := <-ended; err != nil || !strings.Contains(said.String(), `"revision":2,"change":"c1","trace":"4bf9"`) {
			t.Errorf("%v: it says %s", err, said.String())
		}
	})
}
