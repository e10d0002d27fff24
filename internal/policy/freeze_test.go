package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAFreezeIsOverWhenItsPolicySays(t *testing.T) {
	at := func(text string) time.Time {
		out, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	cases := map[string]struct{ freeze, at, until string }{
		"before it begins":                   {"{start: 2026-12-18T18:00, timeZone: Europe/Berlin, duration: 48h}", "2026-12-18T16:59:59Z", ""},
		"when it begins":                     {"{start: 2026-12-18T18:00, timeZone: Europe/Berlin, duration: 48h}", "2026-12-18T17:00:00Z", "2026-12-20T17:00:00Z"},
		"just before its end":                {"{start: 2026-12-18T18:00, timeZone: Europe/Berlin, duration: 48h}", "2026-12-20T16:59:59Z", "2026-12-20T17:00:00Z"},
		"at its end":                         {"{start: 2026-12-18T18:00, timeZone: Europe/Berlin, duration: 48h}", "2026-12-20T17:00:00Z", ""},
		"in UTC where no zone is said":       {"{start: 2026-12-18T18:00, duration: 1h}", "2026-12-18T18:30:00Z", "2026-12-18T19:00:00Z"},
		"every weekend":                      {"{start: 2026-01-02T17:00, timeZone: Europe/Berlin, rrule: FREQ=WEEKLY;BYDAY=FR, duration: 63h}", "2026-11-21T10:00:00Z", "2026-11-23T07:00:00Z"},
		"during the week":                    {"{start: 2026-01-02T17:00, timeZone: Europe/Berlin, rrule: FREQ=WEEKLY;BYDAY=FR, duration: 63h}", "2026-11-18T10:00:00Z", ""},
		"in summer at the same local time":   {"{start: 2026-01-02T17:00, timeZone: Europe/Berlin, rrule: FREQ=WEEKLY;BYDAY=FR, duration: 1h}", "2026-07-03T15:30:00Z", "2026-07-03T16:00:00Z"},
		"days that meet are one":             {"{start: 2026-01-01T00:00, rrule: 'FREQ=WEEKLY;BYDAY=SA,SU', duration: 24h}", "2026-11-21T10:00:00Z", "2026-11-23T00:00:00Z"},
		"after the last one":                 {"{start: 2026-01-01T00:00, rrule: FREQ=DAILY;COUNT=3, duration: 24h}", "2026-01-04T00:00:00Z", ""},
		"the end of the year, every year":    {"{start: 2025-12-20T00:00, rrule: FREQ=YEARLY, duration: 336h}", "2027-01-01T12:00:00Z", "2027-01-03T00:00:00Z"},
		"on a day that is in no year at all": {"{start: 2026-01-01T00:00, rrule: FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30, duration: 24h}", "2026-11-21T10:00:00Z", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := prod(read(t), set("variable/a", "1", "2"))
			e := r.Environments[0]
			e.Released = read(t, policyNamed("p", "freeze: "+c.freeze))
			got := new(Library).Frozen(e, r.Change, at(c.at), false)
			switch {
			case c.until == "" && got != nil:
				t.Errorf("frozen: %s", got)
			case c.until != "" && (got == nil || !got.Until.Equal(at(c.until)) || got.File != "p0.yaml" || got.Line != 5):
				t.Errorf("%v, want until %s", got, c.until)
			}
		})
	}
}

// TestWhatIsAlwaysFrozenIsJudgedAtOnce: days without a gap between them, since long ago, in two policies whose ends never fall together.
// Each question took minutes once, and a publisher decides nothing else meanwhile.
func TestWhatIsAlwaysFrozenIsJudgedAtOnce(t *testing.T) {
	r := prod(read(t), set("variable/a", "1", "2"))
	e := r.Environments[0]
	e.Released = read(t,
		policyNamed("daily", "freeze: {start: 2000-01-01T00:00, rrule: FREQ=DAILY, duration: 24h}"),
		policyNamed("other", "freeze: {start: 2000-01-01T12:00, rrule: FREQ=DAILY, duration: 24h}"),
		policyNamed("never", "freeze: {start: 2000-01-01T00:00, rrule: FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30, duration: 24h}"))
	l := new(Library)
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	first := l.Frozen(e, r.Change, at, false)
	if first == nil || first.Until.Before(at.Add(horizon)) {
		t.Fatalf("frozen for ever: %v", first)
	}
	if later := l.Frozen(e, r.Change, at.Add(horizon), false); later == nil {
		t.Error("not frozen any more")
	}
	if again := l.Frozen(e, r.Change, at, false); again == nil || !again.Until.Equal(first.Until) {
		t.Errorf("the same question has other answers: %v, %v", first, again)
	}
}

func TestSeveralFreezesAreWaitedForTogether(t *testing.T) {
	r := prod(read(t), set("variable/a", "1", "2"))
	e := r.Environments[0]
	e.Released = read(t,
		policyNamed("first", "freeze: {start: 2026-11-21T09:00, duration: 2h}"),
		policyNamed("second", "freeze: {start: 2026-11-21T10:30, duration: 2h, rollbacks: true}"),
		policyNamed("apart", "freeze: {start: 2026-11-21T13:00, duration: 2h}"),
		policyNamed("elsewhere", "matchResources: {environments: [dev]}\nfreeze: {start: 2026-11-21T09:00, duration: 200h}"),
		policyNamed("flags", "matchResources: {resources: ['flag/*']}\nfreeze: {start: 2026-11-21T09:00, duration: 200h}"))
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	if got := new(Library).Frozen(e, r.Change, now, false); got == nil || got.Policy != "second" || got.Until.Hour() != 12 || got.Until.Minute() != 30 {
		t.Errorf("%v", got)
	}
	if got := new(Library).Frozen(e, r.Change, now, true); got != nil {
		t.Errorf("a rollback waits: %s", got)
	}
	if got := new(Library).Frozen(e, r.Change, now.Add(time.Hour), true); got == nil || got.Policy != "second" {
		t.Errorf("a rollback does not wait: %v", got)
	}
	e.Operations = slices.Values([]Operation{set("flag/a", "", "{}")})
	if got := new(Library).Frozen(e, r.Change, now, false); got == nil || got.Policy != "flags" {
		t.Errorf("%v", got)
	}
}

func TestWhatIsWrongWithAFreezeIsSaidWithItsLine(t *testing.T) {
	for freeze, want := range map[string]string{
		"{start: 2026-01-01T00:00, rrule: FREQ=HOURLY, duration: 1h}":           "p0.yaml:5:1: policy/p: a freeze repeats daily, weekly, monthly or yearly",
		"{start: 2026-01-01T00:00, rrule: FREQ=OFTEN, duration: 1h}":            `"FREQ=OFTEN" is no rule of recurrence`,
		"{start: 2026-01-01T00:00, rrule: FREQ=DAILY;BYSECOND=1, duration: 1h}": "BYMINUTE, BYSECOND",
		"{start: 2026-01-01T00:00, rrule: FREQ=DAILY;BYHOUR=1, duration: 1h}":   "the freeze begins at the time of day of its start",
	} {
		if _, err := new(Library).Judge(prod(read(t, policyNamed("p", "freeze: "+freeze)))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", freeze, err)
		}
	}
}
