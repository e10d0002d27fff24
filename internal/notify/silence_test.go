package notify_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/notify"
)

// TestNothingIsSentOfWhatASilenceMatchesUntilItsEnd, whatever was to be sent when it began: what a target was not told of is told at the
// end if it is still so, and never if not; that something is over of which it was told is told at the end.
func TestNothingIsSentOfWhatASilenceMatchesUntilItsEnd(t *testing.T) {
	c, s, now := parse(t, `targets: [{name: oncall, url: "https://example.org/hook"}]`), &notify.State{}, noon
	none, end := notify.Said{}, noon.Add(48*time.Hour)
	said := quiet("prod-*", "", end)
	stays, told, missed, other := failing("prod-stays"), failing("prod-told"), failing("prod-missed"), failing("dev")

	s.Step(c, id, []notify.Finding{told}, none, now)
	if got := sent(s, c, now); len(got) != 1 {
		t.Fatal(got)
	}
	open := notify.View(none, now, s).Open
	if !slices.Equal(open[0].Told, []string{"oncall"}) {
		t.Errorf("told %v", open[0].Told)
	}
	now = now.Add(time.Second)
	s.Step(c, id, []notify.Finding{told, stays, missed, other}, none, now)
	d, _ := s.Due("oncall", none, now)
	s.Took(d, now, errors.New("not sent: connection refused"), false, 0)
	if names := openTold(s, now); !slices.Equal(names, []string{"prod-told"}) {
		t.Errorf("told of %v, and it took one alone", names)
	}

	now = now.Add(time.Hour)
	if d, due := s.Due("oncall", said, now); !due || d.Alarm.Environment != "dev" {
		t.Errorf("before anybody looked again %+v is due", d.Alarm)
	}
	for _, findings := range [][]notify.Finding{{told, stays, missed, other}, {stays}, {stays}} {
		now = now.Add(time.Minute)
		s.Step(c, id, findings, said, now)
		for {
			d, due := s.Due("oncall", said, now)
			if !due {
				break
			}
			if d.Alarm.Environment != "dev" {
				t.Errorf("during the silence %s is sent", d.ID)
			}
			s.Took(d, now, nil, false, 0)
		}
	}
	if len(s.Open) != 1 || len(s.Outbox) != 1 || !s.Outbox[0].Held.Equal(end) {
		t.Fatalf("open %d, to be sent %+v", len(s.Open), s.Outbox)
	}
	s.Step(c, id, []notify.Finding{stays}, said, end)
	first, due := s.Due("oncall", said, end)
	if !due || first.Alarm.Environment != "prod-stays" {
		t.Fatalf("at the end %+v is due, want what began first", first)
	}
	for s.Rests["oncall"].Failures < 4 {
		end = end.Add(time.Minute)
		d, _ := s.Due("oncall", said, end)
		s.Took(d, end, errors.New("answered 503"), false, 0)
	}
	if len(s.Dead) != 0 {
		t.Error("something is given up within minutes: the silence is counted as tries")
	}
	var got []string
	for _, name := range sent(s, c, end.Add(time.Hour)) {
		got = append(got, name[strings.LastIndex(name, "-")+1:])
	}
	if len(got) != 2 || got[0] == "resolved" || got[1] != "resolved" {
		t.Errorf("at the end %v, want that one is still so, and that one is over", got)
	}
}

// TestWhatIsTakenWhileASilenceTakesItBackIsNotToldAgain, and that it is over is told.
func TestWhatIsTakenWhileASilenceTakesItBackIsNotToldAgain(t *testing.T) {
	c, s := parse(t, `targets: [{name: oncall, url: "https://example.org/hook"}]`), &notify.State{}
	said := quiet("*", "", noon.Add(time.Hour))
	findings := []notify.Finding{failing("a"), failing("b")}
	s.Step(c, id, findings, notify.Said{}, noon)
	on := slices.Clone(s.Outbox)
	s.Step(c, id, findings, said, noon)
	s.Took(on[0], noon, nil, false, 0)
	s.Step(c, id, findings[:1], said, noon.Add(time.Second))
	s.Step(c, id, findings[:1], said, noon.Add(2*time.Minute))
	s.Took(on[1], noon.Add(2*time.Minute), nil, false, 0)
	s.Step(c, id, findings[:1], notify.Said{}, noon.Add(2*time.Hour))
	if got := sent(s, c, noon.Add(2*time.Hour)); !slices.Equal(got, []string{"oncall:" + on[1].ID + "-resolved"}) {
		t.Errorf("sent %v", got)
	}
}

// TestWhatWaitedComesOldestFirst to a receiver that was down: it reads them as they happened.
func TestWhatWaitedComesOldestFirst(t *testing.T) {
	c, s, now := parse(t, `targets: [{name: oncall, url: "https://example.org/hook"}]`), &notify.State{}, noon
	var want []string
	for _, environment := range []string{"z", "m", "a"} {
		s.Step(c, id, []notify.Finding{failing(environment)}, notify.Said{}, now)
		want = append(want, environment)
		for range 2 {
			if d, due := s.Due("oncall", notify.Said{}, now); due {
				s.Took(d, now, errors.New("not sent: connection refused"), false, 0)
			}
			now = now.Add(10 * time.Second)
		}
	}
	now = now.Add(time.Hour)
	var got []string
	for range 8 {
		if d, due := s.Due("oncall", notify.Said{}, now); due && !d.Resolved {
			got = append(got, d.Alarm.Environment)
			s.Took(d, now, nil, false, 0)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("they come as %v, want %v", got, want)
	}
}

// openTold are the environments of open alarms that anybody was told of.
func openTold(s *notify.State, now time.Time) (out []string) {
	for _, a := range notify.View(notify.Said{}, now, s).Open {
		if len(a.Told) > 0 {
			out = append(out, a.Environment)
		}
	}
	return out
}

// TestTextSaysSinceAndUntilWhenItWasSo: one that comes late is not read as now.
func TestTextSaysSinceAndUntilWhenItWasSo(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	for i, findings := range [][]notify.Finding{{failing("prod-eu")}, {}, {}} {
		s.Step(c, id, findings, notify.Said{}, noon.Add(time.Duration(i)*time.Minute))
	}
	var texts []string
	for _, d := range s.Outbox {
		if m, err := c.Message(id, d); err == nil && d.Target == "chat" {
			texts = append(texts, string(m.Body))
		}
	}
	if len(texts) != 2 || !strings.Contains(texts[0], "since 2026-11-21 12:00:00 UTC") || !strings.Contains(texts[1], "from 2026-11-21 12:00:00 UTC until 2026-11-21 12:02:00 UTC") {
		t.Errorf("%q", texts)
	}
}
