package audit

import (
	"fmt"
	"testing"
	"time"
)

// TestASearchOfALongLedgerIsBoundedAndGoesOnWhereItStopped: one request looks at so much, and all of them at everything.
func TestASearchOfALongLedgerIsBoundedAndGoesOnWhereItStopped(t *testing.T) {
	const all = 2*mostLooked + 100
	var j Journal
	for n := range uint64(all) {
		j.records = append(j.records, Record{Entry: n + 1, Time: time.Unix(int64(n), 0), By: "op", Environments: []string{"dev", "prod"}})
	}
	j.records[7].By, j.records[8].Environments = "ada", []string{"test"}
	for filter, asked := range map[Filter]struct{ entry, requests uint64 }{{Person: "ada"}: {8, 3}, {Environment: "test"}: {9, 7}} {
		var found []Record
		requests, searched := uint64(1), 0
		for before := uint64(0); ; requests++ {
			page := j.Find(filter, before, 10)
			found, searched = append(found, page.Found...), searched+page.Searched
			if before = page.Older; before == 0 {
				break
			}
		}
		if got := fmt.Sprint(len(found), found[0].Entry, searched, requests); got != fmt.Sprint(1, asked.entry, all, asked.requests) {
			t.Errorf("%+v: found, entry, searched and requests are %s", filter, got)
		}
	}
}
