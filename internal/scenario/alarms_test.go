package scenario

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// A told is who receives alarms: the ids under which each thing was told.
type told struct {
	mu  sync.Mutex
	ids map[string]map[string]bool // by subject
}

func (t *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var event struct{ ID, Type, Subject string }
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if event.Type != notify.TypeRaised {
		return
	}
	if t.ids[event.Subject] == nil {
		t.ids[event.Subject] = map[string]bool{}
	}
	t.ids[event.Subject][event.ID] = true
}

// of is under how many ids a change was told.
func (t *told) of(change string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ids["changes/"+change])
}

// A publisher that is killed while it writes down of what it tells goes on with what it knew: each alarm is told, under one id.
func TestAPublisherKilledWhileItKeepsAlarmsTellsEachUnderOneID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	w.release(set("*", "x", "first"))
	w.settle()
	receiver := &told{ids: map[string]map[string]bool{}}
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	p := w.publishers[0]
	p.settings.Alarms = "targets: [{name: oncall, url: " + server.URL + "}]\nrules: {approval: {after: 0s}, silent: {off: true}, ledger: {off: true}}"
	for i, d := range deaths(telling) {
		p.kill()
		died := p.startDying(d, nil)
		var waits ledger.Approve
		var asked sync.WaitGroup
		asked.Go(func() {
			var err error
			if waits, err = w.propose(set("*", "x", fmt.Sprint(i))); err != nil {
				t.Errorf("proposed while the publisher died: %v", err)
			}
		})
		died()
		p.start()
		asked.Wait()
		bustest.Eventually(t, waits.Change+" is told after "+d.String(), func() bool { return receiver.of(waits.Change) > 0 })
		w.do("ben", waits)
		w.settle()
		if n := receiver.of(waits.Change); n != 1 {
			t.Errorf("%s was told under %d ids after %s", waits.Change, n, d)
		}
	}
	w.holds()
}
