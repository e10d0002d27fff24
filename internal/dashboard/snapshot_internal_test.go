package dashboard

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// A slow backend shows one environment, at a revision, after a while.
type slow struct {
	Backend
	revision uint64
	takes    time.Duration
}

func (b *slow) Fleet() fleet.View {
	<-time.After(b.takes) // in a bubble
	return fleet.View{Environments: []fleet.Environment{{Name: "prod", Revision: b.revision}}}
}

func (b *slow) Alarms() (notify.Overview, error) {
	return notify.Overview{}, &ledger.Error{Kind: ledger.KindNotFound}
}

// A counted page is about prod, and counts how often it is rendered.
func countedPage(times *int) func(*snapshot) made {
	return func(s *snapshot) made {
		*times++
		return made{http.StatusOK, "prod", []byte(s.markOf("prod"))}
	}
}

func TestWhatIsAskedForIsRenderedBeforeThoseWhoWatchAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, times := &slow{}, 0
		d := &dashboard{Options: Options{Backend: b}, pause: pause, streams: 1}
		first := d.now(true)
		first.page("/environments/prod", countedPage(&times))
		time.Sleep(pause)
		if d.now(true); times != 1 {
			t.Errorf("nothing has changed, and the page was rendered %d times", times)
		}
		b.revision++
		time.Sleep(pause)
		now := d.now(true)
		if times != 2 {
			t.Errorf("a release came, and the page was rendered %d times, want 2", times)
		}
		if page := now.page("/environments/prod", countedPage(&times)); times != 2 || string(page.body) != now.markOf("prod") {
			t.Errorf("rendered %d times, as of %s, want %s", times, page.body, now.markOf("prod"))
		}
		select {
		case <-first.next:
		default:
			t.Error("those who watch are not told")
		}
		b.revision++
		time.Sleep(remembered + time.Second)
		if d.now(true); times != 2 {
			t.Error("a page that nobody asks for any more was rendered")
		}
	})
}

// TestWhatIsShownIsNeverMuchOlderThanItsTime: however long a snapshot takes, and whether those who watch make the next one or not.
func TestWhatIsShownIsNeverMuchOlderThanItsTime(t *testing.T) {
	for takes, shown := range map[time.Duration]time.Duration{time.Millisecond: pause + time.Millisecond, 200 * time.Millisecond: 2 * time.Second, 3 * time.Second: longest, longest: longest + pause} {
		synctest.Test(t, func(t *testing.T) {
			b := &slow{takes: takes}
			d := &dashboard{Options: Options{Backend: b}, pause: pause}
			began := time.Now()
			first := d.now(false)
			if first.until != began.Add(shown) {
				t.Errorf("what takes %s is shown for %s, want %s", takes, first.until.Sub(began), shown)
			}
			time.Sleep(time.Until(first.until))
			if d.now(false) == first {
				t.Errorf("it is shown longer, and nobody watches")
			}
			d.streams = 1
			last := d.now(false)
			time.Sleep(time.Until(last.until))
			if d.now(false) != last {
				t.Error("who asks for a page waits for what those who watch are about to make")
			}
			time.Sleep(mostBehind)
			if d.now(false) == last {
				t.Error("what those who watch do not make any more is shown for ever")
			}
		})
	}
}
