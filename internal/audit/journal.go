package audit

import (
	"slices"
	"sort"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// mostLooked bounds one search of a journal: decisions, and names that are compared with a pattern.
const mostLooked = 200_000

// A Journal are the decisions of a ledger, at hand for screens. What it says rests on the publisher that keeps it: Log says the same of a
// ledger that is verified first. It takes some hundred bytes for each decision, less than the state that is kept of the change. The zero
// Journal is empty. Add is not safe for concurrent use; a copy of a Journal may be searched while more is added to it.
type Journal struct {
	records []Record       // oldest first; those that are there do not change
	newest  map[string]int // of each change: the place of the newest record about it
}

// Add takes the entry that a state has just been given; one that is no decision is left out.
func (j *Journal) Add(s *ledger.State, entry events.Entry) error {
	record, err := recordOf(s, entry)
	if err != nil || record == nil {
		return err
	}
	var before Record
	if len(record.Changes) > 0 {
		if at, found := j.newest[record.Changes[0]]; found {
			before = j.records[at]
		}
		if j.newest == nil {
			j.newest = map[string]int{}
		}
		j.newest[record.Changes[0]] = len(j.records)
	}
	record.Environments, record.Resources = kept(before.Environments, record.Environments), kept(before.Resources, record.Resources)
	j.records = append(j.records, *record)
	return nil
}

// kept is a list without room to spare; what the decision before named alike is kept once.
func kept(before, now []string) []string {
	if slices.Equal(before, now) {
		return before
	}
	return slices.Clone(now)
}

// A Page is what a search found among a ledger's decisions.
type Page struct {
	Found    []Record  // newest first
	Searched int       // decisions that were looked at
	From     time.Time // of the oldest of them
	Older    uint64    // the search goes on with decisions before this entry; 0: it went back to the ledger's beginning
}

// Find looks for decisions that a filter wants, before an entry, or for the newest where that is 0: at most so many. It looks at so many as
// can be done at once, and says how far it came.
func (j Journal) Find(f Filter, before uint64, most int) (p Page) {
	begin := len(j.records)
	if before > 0 {
		begin = sort.Search(begin, func(i int) bool { return j.records[i].Entry >= before })
	}
	looked := 0
	for _, record := range slices.Backward(j.records[:begin]) {
		wanted := f.wants(record)
		if looked >= mostLooked || (wanted && len(p.Found) == most) {
			p.Older = record.Entry + 1
			return p
		}
		looked += f.effort(record)
		p.Searched, p.From = p.Searched+1, record.Time
		if wanted {
			p.Found = append(p.Found, record)
		}
	}
	return p
}

// effort is how much it takes to say whether a record is wanted.
func (f Filter) effort(r Record) int {
	names := 1
	if f.Environment != "" {
		names += len(r.Environments)
	}
	if f.Resource != "" {
		names += len(r.Resources)
	}
	return names
}
