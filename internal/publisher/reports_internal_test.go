package publisher

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestAcksOfUnknownAgentsWaitNeitherForEverNorInAnyNumber(t *testing.T) {
	entries, err := openCopy(filepath.Join(t.TempDir(), "ledger.copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer entries.file.Close()
	b, err := newBook(entries)
	if err != nil {
		t.Fatal(err)
	}
	r := newReports(b)
	const more = 5
	for i := range unfitMost + more {
		if err := r.ack(bus.Report{Environment: "dev", Agent: fmt.Sprint(i), Stored: bus.Stored{Payload: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.rejections()[events.ReasonSignature]; n != more {
		t.Errorf("%d are rejected at once, want %d", n, more)
	}
	if due := r.due(time.Now()); len(due) != 0 || len(r.waiting) != unfitMost {
		t.Errorf("%d are due, %d wait", len(due), len(r.waiting))
	}
	if due := r.due(time.Now().Add(unfitLife + time.Second)); len(due) != 0 || len(r.waiting) != 0 {
		t.Errorf("%d are due, %d wait", len(due), len(r.waiting))
	}
	if n := r.rejections()[events.ReasonSignature]; n != unfitMost+more {
		t.Errorf("%d are rejected, want %d", n, unfitMost+more)
	}
}

func TestACommandNeverAppendsToALedgerThatIsInDoubt(t *testing.T) {
	b := &book{changed: make(chan struct{}), state: ledger.New("x"), standing: standing{checking: true}}
	before := b.doubted()
	b.checkAgain(events.ReasonStartup, "something happened meanwhile")
	if b.open(before) {
		t.Error("opened by a check that began before the doubt")
	}
	if !b.open(b.doubted()) {
		t.Error("not opened")
	}
	b.commit.Lock() // another command is under way, and its outcome will not be known
	tried := make(chan error, 1)
	go func() {
		_, err := b.attempt(t.Context(), ledger.Command{}, false)
		tried <- err
	}()
	_ = b.lost(bus.ErrUnavailable)
	b.commit.Unlock()
	if err := <-tried; err != errMoved {
		t.Errorf("got %v", err)
	}
}
