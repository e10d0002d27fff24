package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A doer carries out commands: a publisher here, or in a process of its own.
type doer interface {
	Do(context.Context, ledger.Command, bool) (ledger.Outcome, error)
}

// again sends a command, with the same id, until it is answered.
func again(t testing.TB, p doer, c ledger.Command) (out ledger.Outcome) {
	t.Helper()
	bustest.Eventually(t, c.Verb()+" is answered", func() (ok bool) {
		var err error
		out, err = p.Do(bustest.Context(t), c, false)
		if err != nil && api.KindOf(err) != api.KindUnavailable {
			t.Fatalf("%s: %v", c.Verb(), err)
		}
		return err == nil
	})
	return out
}

func names(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s-%03d", prefix, i))
	}
	return out
}

func TestABusThatIsKilledUnderReleasesEndsWithEachOnce(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	p := start(t, t.TempDir(), on(process))
	environments := names("env", 60)
	addEnvironments(t, p, environments...)
	one := enrol(t, p, environments[0], "one")
	for round := range 3 {
		var commands []ledger.Command
		for i := range 10 {
			commands = append(commands, command("ben", propose(t, p, fmt.Sprintf("variable/x%d", i), round, "*")))
		}
		var flying sync.WaitGroup
		outcomes := make([]ledger.Outcome, len(commands))
		started := make(chan struct{}, len(commands))
		for i, c := range commands {
			flying.Go(func() {
				started <- struct{}{}
				outcomes[i] = again(t, p, c)
			})
		}
		<-started
		bustest.Eventually(t, "some were released", func() bool { return heads(p)[environments[0]] >= uint64(2+10*round) })
		process.Kill()
		process.Restart()
		flying.Wait()
		for i, c := range commands {
			if out := again(t, p, c); !out.Again || out.Entry != outcomes[i].Entry {
				t.Errorf("done twice, or with another answer: %+v, then %+v", outcomes[i], out)
			}
		}
	}
	conn := bustest.Connect(t, process.URL())
	eventuallySent(t, p, conn)
	for name, head := range heads(p) {
		if head != 31 {
			t.Errorf("%s is at %d", name, head)
		}
	}
	verify(t, p)
	one.reaches(31)
}

// longLease is that of a bus on which nobody takes the lease from a test that is slow to renew it.
const longLease = time.Minute

func withLongLease(o *publisher.Options) { o.LeaseTTL = longLease }

// withTheLease makes a bus with a long lease and holds it, so that publishers decide and send nothing, until the function it returns is
// called.
func withTheLease(t testing.TB, url string) (giveBack func()) {
	t.Helper()
	conn := bustest.Connect(t, url, func(o *bus.Options) { o.Name = "holder" })
	_, err := conn.EnsureStreams(bustest.Context(t), bus.StreamOptions{LeaseTTL: longLease})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	held, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = conn.HoldLease(ctx, "holder", func(ctx context.Context) { close(held); <-ctx.Done() })
	}()
	stop := sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	select {
	case <-held:
	case <-bustest.Context(t).Done():
		t.Fatal("the lease could not be had")
	}
	return stop
}

func TestAPublisherGoneBetweenDecisionAndReleaseIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	// The data directory of the next one: the same, or a new one with a copy of the key.
	same := func(_ *testing.T, data string) string { return data }
	other := func(t *testing.T, data string) string {
		dir := t.TempDir()
		key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "publisher.key"), key, 0o600))
		return dir
	}
	for name, next := range map[string]func(*testing.T, string) string{"the same restarted": same, "another one": other} {
		t.Run("killed, "+name, func(t *testing.T) {
			t.Parallel()
			process := bustest.StartProcess(t)
			data := t.TempDir()
			giveBack := withTheLease(t, process.URL())
			c := startChild(t, childSettings{data, process.URL(), process.MonitorURL(), longLease})
			addEnvironments(t, c, "dev", "prod")
			out := do(t, c, "anna", set("variable/x", 1, "*"))
			do(t, c, "ben", approvalOf(t, c, out.Change))
			c.kill()
			conn := bustest.Connect(t, process.URL())
			if found := stream(t, conn); len(found) > 0 {
				t.Fatal("released without the lease")
			}
			p := start(t, next(t, data), on(process), withLongLease)
			giveBack()
			eventuallySent(t, p, conn)
			if h := heads(p); h["dev"] != 2 || h["prod"] != 2 {
				t.Error(h)
			}
			verify(t, p)
		})
		t.Run("stopped, "+name, func(t *testing.T) {
			t.Parallel()
			process := bustest.StartProcess(t)
			data := t.TempDir()
			giveBack := withTheLease(t, process.URL())
			p := start(t, data, on(process), withLongLease)
			addEnvironments(t, p, "dev")
			release(t, p, "variable/x", 1, "dev")
			stop(t, p)
			conn := bustest.Connect(t, process.URL())
			if found := stream(t, conn); len(found) > 0 {
				t.Fatal("released without the lease")
			}
			giveBack()
			p = start(t, next(t, data), on(process), withLongLease)
			eventuallySent(t, p, conn)
		})
	}
}

func TestTwoPublishersDecideSideBySide(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	data, other := t.TempDir(), t.TempDir()
	dying := startChild(t, childSettings{Data: data, NATS: process.URL(), MonitorURL: process.MonitorURL()})
	addEnvironments(t, dying, "dev", "prod")
	key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "publisher.key"), key, 0o600))
	p := start(t, other, on(process))
	one := enrol(t, p, "dev", "one")

	const each = 40
	var racing sync.WaitGroup
	for i := range each {
		racing.Go(func() {
			out := do(t, dying, "anna", set(fmt.Sprintf("variable/a%d", i), i, "*"))
			for _, backend := range []doer{dying, p} { // both approve; one of them is the second
				_, err := backend.Do(bustest.Context(t), command("ben", approvalOf(t, dying, out.Change)), false)
				if err != nil && ledger.KindOf(err) != ledger.KindConflict {
					t.Error(err)
				}
			}
		})
		racing.Go(func() { release(t, p, fmt.Sprintf("variable/b%d", i), i, "*") })
		racing.Go(func() {
			c := command("anna", set(fmt.Sprintf("variable/c%d", i), i, "prod"))
			var both sync.WaitGroup
			results := make([]ledger.Outcome, 2)
			for n, backend := range []doer{dying, p} {
				both.Go(func() {
					var err error
					if results[n], err = backend.Do(bustest.Context(t), c, false); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			if results[0].Change != results[1].Change || results[0].Again == results[1].Again {
				t.Errorf("one command, two publishers: %+v and %+v", results[0], results[1])
			}
		})
	}
	racing.Wait()
	conn := bustest.Connect(t, process.URL())
	eventuallySent(t, p, conn)
	if h := heads(p); h["dev"] != 1+2*each || h["prod"] != 1+2*each {
		t.Error(h)
	}
	verify(t, p)

	dying.kill()
	release(t, p, "variable/a0", "after the other died", "*")
	eventuallySent(t, p, conn)
	one.reaches(2 + 2*each)
	verify(t, p)
}

func TestWhatOnePublisherAnsweredTheOtherKnows(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	data, other := t.TempDir(), t.TempDir()
	p := start(t, data, on(process))
	addEnvironments(t, p, "dev")
	key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "publisher.key"), key, 0o600))
	q := start(t, other, on(process))
	eventuallyWritable(t, q)
	for i := range 50 {
		approve := command("ben", propose(t, p, "variable/x", i, "dev"))
		first, err := q.Do(bustest.Context(t), approve, false)
		must(t, err)
		again, err := p.Do(bustest.Context(t), approve, false)
		if err != nil || !again.Again || again.Entry != first.Entry {
			t.Fatalf("first %+v, then %+v, %v", first, again, err)
		}
	}
}

func approvalOf(t testing.TB, c *child, change string) ledger.Approve {
	t.Helper()
	view, err := c.Change(bustest.Context(t), change)
	must(t, err)
	return ledger.Approve{Change: view.ID, Digest: view.Digest}
}

func TestASecondPublisherOnADirectoryIsRefused(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	start(t, data)
	if _, err := publisher.New(t.Context(), options(data)); err == nil || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAPublisherThatMayNotWriteGivesWay(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	data := t.TempDir()
	p := start(t, data, on(process))
	addEnvironments(t, p, "dev")
	stop(t, p)
	stranger := start(t, t.TempDir(), on(process)) // with a key that no agent believes
	leads := func(p *publisher.Publisher) bool {
		for _, c := range p.Doctor(bustest.Context(t)) {
			if c.Name == "lease" {
				return strings.HasPrefix(c.Message, "this publisher")
			}
		}
		return false
	}
	bustest.Eventually(t, "the stranger has the lease", func() bool { return leads(stranger) })
	p = start(t, data, on(process))
	release(t, p, "variable/x", 1, "dev")
	if lag := p.Fleet().Environments[0].LagSeconds; lag < 0 || lag > bustest.Deadline.Seconds() {
		t.Errorf("lag of %v s, just released", lag)
	}
	eventuallySent(t, p, bustest.Connect(t, process.URL()))
	bustest.Eventually(t, "the publisher has the lease, which a slow one may lose for a moment", func() bool { return leads(p) })
	if view := stranger.Fleet().Ledger; view.Reason != events.ReasonTrust {
		t.Errorf("the stranger is %+v", view)
	}
}
