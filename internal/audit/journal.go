package audit

import (
	"slices"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// MaxJournal is how many decisions a journal keeps.
const MaxJournal = 20_000

// A Journal are the newest decisions of a ledger, at hand for screens. What it says rests on the publisher that keeps it: Log says the
// same of a ledger that is verified first, and of all of it. The zero Journal is empty. It is not safe for concurrent use.
type Journal struct {
	records []Record // oldest first
	dropped bool     // older ones are no longer here
}

// Add takes the entry that a state has just been given; one that is no decision is left out.
func (j *Journal) Add(s *ledger.State, entry events.Entry) error {
	record, err := recordOf(s, entry)
	if err != nil || record == nil {
		return err
	}
	j.records = append(j.records, *record)
	if len(j.records) > MaxJournal+MaxJournal/10 { // not one by one
		j.records, j.dropped = slices.Clone(j.records[len(j.records)-MaxJournal:]), true
	}
	return nil
}

// Find are the decisions that a filter wants, newest first: at most so many, and how many more there are. Whole says that the journal goes back
// to the beginning of the ledger.
func (j *Journal) Find(f Filter, most int) (found []Record, more int, whole bool) {
	for _, record := range slices.Backward(j.records) {
		switch {
		case !f.wants(record):
		case len(found) < most:
			found = append(found, record)
		default:
			more++
		}
	}
	return found, more, !j.dropped
}
