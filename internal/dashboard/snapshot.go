package dashboard

import (
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// maxPages is how many rendered pages are kept of one snapshot; what is beyond is rendered for each who asks.
const maxPages = 64

// A snapshot is the fleet at a moment, shared by all who watch: it is taken, and each page of it rendered, once.
type snapshot struct {
	view  fleet.View
	told  told
	until time.Time     // by the wall clock: when another may be taken
	next  chan struct{} // closed when there is another
	all   string        // mark of everything
	of    map[string]string

	mu    sync.Mutex
	pages map[string]*rendered
}

// A rendered page is made once, by whoever needs it first.
type rendered struct {
	render func(*snapshot) made
	asked  time.Time // when somebody asked for it last; of the snapshot's mu

	mu   sync.Mutex // held while it is made
	made *made      // nil: not yet
	of   string     // what it was about when it was made last, here or in a snapshot before
}

// A made page is what whoever asks gets.
type made struct {
	status int
	of     string // the environment that it is about; "": everything
	body   []byte
}

const (
	// longest is how long a snapshot is shown at most before another is begun, and how long its pages are given to be rendered at leisure.
	longest = 5 * time.Second
	// mostBehind is how long after its time a snapshot is shown while another is being made.
	mostBehind = longest + 2*time.Second
	// remembered is how long a page is rendered ahead after somebody asked for it: those who watch ask every beat at least.
	remembered = 3 * beat
)

// now is the fleet as of now, or some moments ago. Making a snapshot costs at most a tenth of the time, however large the fleet is; who
// asks meanwhile gets the one before, but never one that is much older: a publisher that hangs must not look alive. While anybody
// watches, their streams make the next one with its pages, and who asks for a page waits for neither.
func (d *dashboard) now(stream bool) *snapshot {
	d.mu.Lock()
	began, last := time.Now(), d.last
	if last != nil && (began.Before(last.until) || (d.taking || d.streams > 0 && !stream) && began.Sub(last.until) < mostBehind) {
		d.mu.Unlock()
		return last
	}
	d.taking = true
	d.mu.Unlock()
	d.one.Lock()
	defer d.one.Unlock()
	d.mu.Lock()
	taken := d.last
	d.mu.Unlock()
	if taken != last {
		return taken // by another, while this one waited
	}
	s := &snapshot{view: d.Backend.Fleet(), next: make(chan struct{}), of: map[string]string{}, pages: map[string]*rendered{}}
	s.told.Overview, s.told.none = d.Backend.Alarms()
	s.mark()
	worked := time.Since(began)
	if last != nil && stream {
		worked += d.ahead(s, last, began)
	}
	s.until = began.Add(max(time.Since(began)+d.pause, min(10*worked, longest)))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last, d.taking = s, false
	if last != nil {
		close(last.next)
	}
	return s
}

// ahead renders what those who watch ask for as soon as they are told of a snapshot: the pages that somebody asked for lately, where
// they show something new. It works a tenth of the time, as long as there is time, and says how long it worked.
func (d *dashboard) ahead(s, last *snapshot, began time.Time) (worked time.Duration) {
	for {
		address, r, asked := last.lacking(s)
		if r == nil {
			return worked
		}
		next := &rendered{render: r.render, asked: asked, of: r.about()}
		s.pages[address] = next
		if s.markOf(next.of) == last.markOf(next.of) {
			continue
		}
		at := time.Now()
		next.page(s)
		took := time.Since(at)
		worked += took
		select {
		case <-time.After(min(9*took, longest-time.Since(began))):
		case <-d.Done:
		}
	}
}

// lacking is a page that the next snapshot has not, and when somebody asked for it last; nil: there is none but such as nobody asked for
// lately.
func (s *snapshot) lacking(next *snapshot) (address string, r *rendered, asked time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, r := range s.pages {
		if next.pages[address] == nil && time.Since(r.asked) <= remembered {
			return address, r, r.asked
		}
	}
	return "", nil, time.Time{}
}

// page is the page at an address, made by whoever asks first.
func (s *snapshot) page(address string, render func(*snapshot) made) *made {
	s.mu.Lock()
	r := s.pages[address]
	if r == nil {
		r = &rendered{render: render}
		if len(s.pages) < maxPages {
			s.pages[address] = r
		}
	}
	r.asked = time.Now()
	s.mu.Unlock()
	return r.page(s)
}

func (r *rendered) page(s *snapshot) *made {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made == nil {
		page := r.render(s)
		r.made, r.of = &page, page.of
	}
	return r.made
}

func (r *rendered) about() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of
}

// mark gives everything, and every environment, a mark that changes when what pages show of it does; ages alone do not change it. The
// marks are the same on every publisher of a ledger that tells of the same alarms, and after a restart: who comes back with one learns
// whether anything has happened.
func (s *snapshot) mark() {
	l := s.view.Ledger
	standing := fmt.Sprint(l.ID, l.Writable, l.Reason, l.Since.UnixNano(), l.Durability)
	all := fnv.New64a()
	fmt.Fprint(all, standing, l.Tip.Number, l.Tip.Hash, len(s.view.Reviews))
	s.told.mark(all)
	for _, e := range s.view.Environments {
		one := fnv.New64a()
		_, _ = io.WriteString(one, standing) // a hash takes everything
		markEnvironment(one, e)
		sum := one.Sum(nil)
		s.of[e.Name] = fmt.Sprintf("%x", sum)
		_, _ = all.Write(sum)
	}
	s.all = strconv.FormatUint(all.Sum64(), 16)
}

func markEnvironment(w io.Writer, e fleet.Environment) {
	fmt.Fprint(w, "\n", e.Name, e.Condition, e.Reason, e.Since.UnixNano(), e.Head, e.Revision, e.LastChange, e.Labels, e.Steward, e.Approvals, e.Lost, len(e.Frozen))
	for _, a := range e.Agents {
		fmt.Fprint(w, "\n", a.Name, a.Condition, a.Reason, a.Since.UnixNano(), a.Until.UnixNano(), a.Revision, a.State, a.ReadBack, a.Differing, a.Version, a.Connectors)
	}
}

// markOf is the mark of an environment, or of everything.
func (s *snapshot) markOf(environment string) string {
	if environment == "" {
		return s.all
	}
	return s.of[environment]
}
