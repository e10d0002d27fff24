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
	until time.Time // by the wall clock: when another may be taken
	all   string    // mark of everything
	of    map[string]string

	mu    sync.Mutex
	pages map[string]*rendered
}

// A rendered page is made once.
type rendered struct {
	once   sync.Once
	status int
	body   []byte
}

// mostBehind is how long after its time a snapshot is shown while another is being taken.
const mostBehind = 2 * time.Second

// now is the fleet as of now, or some moments ago. Taking one costs at most a twentieth of the time, however large the fleet is; who
// asks meanwhile gets the one before, but never one that is much older: a publisher that hangs must not look alive.
func (d *dashboard) now() *snapshot {
	d.mu.Lock()
	began, last := time.Now(), d.last
	if last != nil && (began.Before(last.until) || d.taking && began.Sub(last.until) < mostBehind) {
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
	s := &snapshot{view: d.Backend.Fleet(), of: map[string]string{}, pages: map[string]*rendered{}}
	s.told.Overview, s.told.none = d.Backend.Alarms()
	s.mark()
	s.until = began.Add(max(d.pause, 20*time.Since(began)))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last, d.taking = s, false
	return s
}

// rendered is the page at an address, made by whoever asks first.
func (s *snapshot) rendered(address string, make func() (int, []byte)) (int, []byte) {
	s.mu.Lock()
	r := s.pages[address]
	if r == nil {
		r = &rendered{}
		if len(s.pages) < maxPages {
			s.pages[address] = r
		}
	}
	s.mu.Unlock()
	r.once.Do(func() { r.status, r.body = make() })
	return r.status, r.body
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
