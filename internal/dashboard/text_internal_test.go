package dashboard

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

func TestATextIsNotCutOffForAFewBytes(t *testing.T) {
	if got := string(clipped(strings.Repeat("a", 10+leastHidden-1), 10)); strings.Contains(got, "more") {
		t.Errorf("it is cut off: %s", got)
	}
	if got := string(clipped(strings.Repeat("ä", 20), 10)); got != strings.Repeat("ä", 10)+`<span class="more">… 20 bytes more</span>` {
		t.Errorf("got %s", got)
	}
}

func TestDaysBelowAChartAreEvenlyApart(t *testing.T) {
	until := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for days, want := range map[int]string{7: ">11-15< >11-16< >11-17< >11-18< >11-19< >11-20< >11-21< >11-22<", 30: ">10-23< >10-28< >11-02< >11-07< >11-12< >11-17< >11-22<"} {
		drawn := string(overTime(fleet.Propagation{Since: until.AddDate(0, 0, -days), Until: until, Buckets: make([]fleet.LagBucket, 1)}))
		for label := range strings.FieldsSeq(want) {
			if strings.Count(drawn, label) != 1 {
				t.Errorf("%d days: no single %s in %s", days, label, drawn)
			}
		}
	}
}
