package notify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const id = "0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, text string) *notify.Config {
	t.Helper()
	c, err := notify.ParseConfig("notify.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const twoTargets = `
targets:
- {name: oncall, url: "https://example.org/hook"}
- {name: chat, url: "https://chat.example.org/x", format: slack, environments: [prod-*], rules: [failing]}
link: https://lockstep.example.org
`

func failing(environment string) notify.Finding {
	return notify.Finding{Rule: notify.Failing, Environment: environment, State: "failing", Reason: "connector-failed", Message: "it answered <500>",
		Since: noon, Stewards: []string{"team-a"}, Owners: []string{"checkout"}, Author: "anna", Next: "publisher status " + environment}
}

// sent takes everything that is due out of the outbox, successfully, and returns it as target:id.
func sent(s *notify.State, c *notify.Config, now time.Time) (out []string) {
	for _, target := range c.Targets {
		for {
			d, due := s.Due(target.Name, notify.Said{}, now)
			if !due {
				break
			}
			out = append(out, d.Target+":"+d.ID)
			s.Took(d, now, nil, false, 0)
		}
	}
	return out
}

func TestAnEpisodeIsToldOnceWhenItBeginsAndOnceWhenItIsOver(t *testing.T) {
	c, s, now := parse(t, twoTargets), &notify.State{}, noon
	step := func(after time.Duration, findings ...notify.Finding) []string {
		now = now.Add(after)
		s.Step(c, id, findings, notify.Said{}, now)
		return sent(s, c, now)
	}
	begun := step(0, failing("prod-eu"))
	if len(begun) != 2 || !strings.HasPrefix(begun[0], "oncall:") || !strings.HasPrefix(begun[1], "chat:") {
		t.Fatalf("told: %v", begun)
	}
	episode := strings.TrimPrefix(begun[1], "chat:")
	for _, quiet := range [][]string{
		step(5*time.Second, failing("prod-eu")),  // goes on
		step(5 * time.Second),                    // comes and goes
		step(30*time.Second, failing("prod-eu")), // is the same
		step(5 * time.Second),                    // well
		step(59 * time.Second),                   // not long enough
	} {
		if len(quiet) != 0 {
			t.Fatalf("told in between: %v", quiet)
		}
	}
	over := step(time.Second)
	slices.Sort(over)
	if !slices.Contains(over, "oncall:"+episode+"-resolved") || !slices.Contains(over, "chat:"+episode+"-resolved") || len(over) != 2 {
		t.Errorf("at the end: %v, want the episode %s", over, episode)
	}
	again := step(time.Hour, failing("prod-eu"))
	if len(again) != 2 || slices.Contains(again, "chat:"+episode) {
		t.Errorf("another episode: %v", again)
	}
}

func TestWhatIsWrongForAMomentIsToldToNobodyWhereTheRuleWaits(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	silent := notify.Finding{Rule: notify.Silent, Environment: "dev", State: "silent", Since: noon.Add(-time.Hour)}
	for i, findings := range [][]notify.Finding{{silent}, {}, {silent}, {silent}} {
		s.Step(c, id, findings, notify.Said{}, noon.Add(time.Duration(i)*30*time.Second))
		if len(s.Outbox) > 0 {
			t.Fatalf("told after %d s: it was heard in between", i*30)
		}
	}
	s.Step(c, id, []notify.Finding{silent}, notify.Said{}, noon.Add(2*time.Minute))
	if len(s.Outbox) != 1 {
		t.Errorf("%d told after a minute of silence", len(s.Outbox))
	}
	waits := notify.Finding{Rule: notify.Approval, Change: "c1", Since: noon.Add(-4 * time.Hour)}
	if s.Step(c, id, []notify.Finding{silent, waits}, notify.Said{}, noon); len(s.Outbox) != 2 {
		t.Error("what waits since long before the start is not told at once")
	}
}

// quiet is a silence of some environments and a rule.
func quiet(environment string, rule notify.Rule, until time.Time) notify.Said {
	return notify.Said{Silences: []ledger.Silence{{Entry: 7, Environment: environment, Rule: string(rule), Until: until, By: "dora", Reason: "maintenance", Time: noon}}}
}

func TestASilenceKeepsAlarmsUntilItsEnd(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	said := quiet("prod-*", notify.Failing, noon.Add(time.Hour))
	findings := []notify.Finding{failing("prod-eu"), failing("dev")}
	s.Step(c, id, findings, said, noon)
	if told := sent(s, c, noon); len(told) != 1 {
		t.Errorf("told %v, want dev alone", told)
	}
	v := notify.View(said, noon, s)
	if len(v.Open) != 2 || v.Open[0].Silenced == v.Open[1].Silenced || len(v.Silences) != 1 || v.Silences[0].ID != "s7" || v.Silences[0].By != "dora" {
		t.Errorf("%+v", v)
	}
	s.Step(c, id, findings, said, noon.Add(time.Hour))
	if told := sent(s, c, noon.Add(time.Hour)); len(told) != 2 {
		t.Errorf("told %v when the silence was over, want both targets", told)
	}
	everything := &notify.State{}
	waits := notify.Finding{Rule: notify.Approval, Change: "c1", Since: noon.Add(-5 * time.Hour)}
	if everything.Step(c, id, []notify.Finding{waits}, quiet("*", "", noon.Add(time.Hour)), noon); len(everything.Outbox) != 0 || len(everything.Open) != 1 {
		t.Errorf("what is about no environment is told while everything is silenced: %+v", everything.Outbox)
	}
}

func TestWhoTakesCareOfAnAlarmIsWhoSaidSoLastOfThatEnvironment(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	s.Step(c, id, []notify.Finding{failing("dev")}, notify.Said{}, noon)
	alarm := notify.View(notify.Said{}, noon, s).Open[0]
	said := func(environment string, by ...string) (out notify.Said) {
		for _, name := range by {
			out.Acknowledged = append(out.Acknowledged, ledger.Acknowledgement{Alarm: alarm.ID, Environment: environment, By: name, Reason: "on it", Time: noon})
		}
		return out
	}
	if alarm.Acknowledged != nil || notify.View(said("prod", "mallory"), noon, s).Open[0].Acknowledged != nil {
		t.Error("somebody takes care of it who said so of another environment's")
	}
	if got := notify.View(said("dev", "dora", "emil"), noon, s).Open[0].Acknowledged; got == nil || got.By != "emil" || got.Reason != "on it" {
		t.Errorf("%+v", got)
	}
}

func TestWhatNobodyTakesBecomesADeadLetter(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	s.Step(c, id, []notify.Finding{failing("prod-eu")}, notify.Said{}, noon)
	chat, _ := s.Due("chat", notify.Said{}, noon)
	s.Took(chat, noon, errors.New("answered 410 Gone"), true, 0)
	now, tries := noon, 0
	for len(s.Outbox) > 0 {
		if d, due := s.Due("oncall", notify.Said{}, now); due {
			tries++
			s.Took(d, now, errors.New("not sent: connection refused"), false, 0)
		}
		if now = now.Add(time.Second); now.Sub(noon) > 25*time.Hour {
			t.Fatal("never given up")
		}
	}
	if s.Step(c, id, []notify.Finding{failing("prod-eu")}, notify.Said{}, now); len(s.Outbox) > 0 {
		t.Errorf("what was given up is sent again: %+v", s.Outbox)
	}
	v := notify.View(notify.Said{}, now, s)
	if a := v.Open[0]; len(a.Told) != 0 || !slices.Equal(a.Missed, []string{"chat", "oncall"}) {
		t.Errorf("told %v, missed by %v: nobody took it", a.Told, a.Missed)
	}
	if len(v.Dead) != 2 || v.Dead[0].Target != "oncall" || v.Dead[1].Error != "answered 410 Gone" || tries < 280 || tries > 310 || now.Sub(noon) < 24*time.Hour || v.Dead[0].GivenUp.Sub(noon) < 24*time.Hour {
		t.Errorf("%d tries until %s, %+v", tries, now.Sub(noon), v.Dead)
	}
}

// TestAMessageThatATargetDoesNotTakeKeepsNoOtherBack but for that the episode is over, which is not told before it began.
func TestAMessageThatATargetDoesNotTakeKeepsNoOtherBack(t *testing.T) {
	c, s, now := parse(t, twoTargets), &notify.State{}, noon
	s.Step(c, id, []notify.Finding{failing("a"), failing("b")}, notify.Said{}, now)
	poison := s.Outbox[0].Alarm.Environment
	for range 3 { // that it is over, for both
		now = now.Add(time.Minute)
		s.Step(c, id, nil, notify.Said{}, now)
	}
	var took []string
	for range 30 {
		d, due := s.Due("oncall", notify.Said{}, now)
		if !due {
			now = now.Add(10 * time.Minute)
			continue
		}
		if d.Alarm.Environment == poison {
			if d.Resolved {
				t.Fatal("it is told that it is over before that it began")
			}
			s.Took(d, now, errors.New("answered 500"), false, 0)
			continue
		}
		took = append(took, fmt.Sprint(d.Alarm.Environment, d.Resolved))
		s.Took(d, now, nil, false, 0)
	}
	if len(took) != 2 || len(s.Outbox) != 2 {
		t.Errorf("took %v, %d wait", took, len(s.Outbox))
	}
}

func TestATargetIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	c := parse(t, twoTargets)
	for asked, want := range map[time.Duration]time.Duration{0: time.Second, 90 * time.Second: 90 * time.Second, 48 * time.Hour: time.Hour} {
		s := &notify.State{}
		s.Step(c, id, []notify.Finding{failing("a"), failing("b")}, notify.Said{}, noon)
		d, _ := s.Due("oncall", notify.Said{}, noon)
		s.Took(d, noon, errors.New("answered 429"), false, asked)
		if _, due := s.Due("oncall", notify.Said{}, noon.Add(want-time.Millisecond)); due {
			t.Errorf("%s: it is sent another one before %s", asked, want)
		}
		again, due := s.Due("oncall", notify.Said{}, noon.Add(want))
		if !due || again.ID != d.ID {
			t.Errorf("%s: after %s: %+v, %t", asked, want, again, due)
		}
		s.Took(again, noon.Add(want), nil, false, 0)
		if next, due := s.Due("oncall", notify.Said{}, noon.Add(want)); !due || next.ID == d.ID {
			t.Errorf("%s: it took one, and is not sent the other", asked)
		}
	}
}

func TestTargetsThatAreGoneLeaveDeadLetters(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	s.Step(c, id, []notify.Finding{failing("prod-eu")}, notify.Said{}, noon)
	s.Drop(parse(t, `targets: [{name: oncall, url: "https://example.org/hook"}]`), noon)
	if v := notify.View(notify.Said{}, noon, s); len(v.Waiting) != 1 || len(v.Dead) != 1 || v.Dead[0].Target != "chat" {
		t.Errorf("%+v", v)
	}
}

// TestEveryEpisodeIsToldAtLeastOnceAndTwiceOnlyAfterACrash lets receivers fail and the program die between sending and writing down.
func TestEveryEpisodeIsToldAtLeastOnceAndTwiceOnlyAfterACrash(t *testing.T) {
	c := parse(t, twoTargets)
	rapid.Check(t, func(t *rapid.T) {
		s, now := &notify.State{}, noon
		written, err := json.Marshal(s)
		write := func() {
			if written, err = json.Marshal(s); err != nil {
				t.Fatal(err)
			}
		}
		restart := func() {
			s = &notify.State{}
			if err := json.Unmarshal(written, s); err != nil {
				t.Fatal(err)
			}
		}
		received, crashes, episodes := map[string]int{}, map[string]int{}, map[string]bool{}
		send := func(fail, crash bool) {
			for _, target := range c.Targets {
				d, due := s.Due(target.Name, notify.Said{}, now)
				if !due {
					continue
				}
				key := d.Target + " " + d.ID
				if fail {
					s.Took(d, now, errors.New("down"), false, 0)
				} else {
					received[key]++
					if crash {
						crashes[key]++
						restart()
						continue
					}
					s.Took(d, now, nil, false, 0)
				}
				write()
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
			var findings []notify.Finding
			for _, name := range []string{"prod-eu", "dev"} {
				if rapid.Bool().Draw(t, name) {
					findings = append(findings, failing(name))
				}
			}
			s.Step(c, id, findings, notify.Said{}, now)
			write()
			for _, a := range s.Open {
				for _, target := range a.Told {
					episodes[target+" "+a.ID] = true
				}
			}
			if rapid.Bool().Draw(t, "restart") {
				restart()
			}
			send(rapid.Bool().Draw(t, "fail"), rapid.Bool().Draw(t, "crash"))
		}
		for i := 0; len(s.Outbox) > 0 && i < 1000; i++ {
			now = now.Add(5 * time.Minute)
			send(false, false)
		}
		for key := range episodes {
			if received[key] == 0 {
				t.Fatalf("%s is never told", key)
			}
		}
		for key, times := range received {
			if times > 1+crashes[key] {
				t.Fatalf("%s is told %d times, with %d crashes", key, times, crashes[key])
			}
		}
	})
}

func TestWhatIsSentIsACloudEventOrTextWithoutMarkupOfOthers(t *testing.T) {
	c, s := parse(t, twoTargets), &notify.State{}
	s.Step(c, id, []notify.Finding{failing("prod-eu")}, notify.Said{}, noon)
	for _, d := range s.Outbox {
		m, err := c.Message(id, d)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := c.Message(id, d)
		if string(again.Body) != string(m.Body) {
			t.Error("sent again it is something else")
		}
		if d.Target == "chat" {
			var slack struct{ Text string }
			if err := json.Unmarshal(m.Body, &slack); err != nil || m.ContentType != "application/json" {
				t.Errorf("%v: %s", err, m.Body)
			}
			for _, want := range []string{"prod-eu is failing", "since 2026-11-21 12:00:00 UTC", "connector-failed: it answered &lt;500&gt;", "steward team-a; owner checkout; proposed by anna", "`publisher status prod-eu`",
				"https://lockstep.example.org/environments/prod-eu", "alarm " + d.Alarm.ID} {
				if !strings.Contains(slack.Text, want) {
					t.Errorf("%q is not in %q", want, slack.Text)
				}
			}
			continue
		}
		var e event.Event
		if err := json.Unmarshal(m.Body, &e); err != nil {
			t.Fatal(err)
		}
		var said struct {
			Alarm, Environment, Author string
			Stewards, Owners           []string
		}
		if err := errors.Join(e.Validate(), e.DataAs(&said)); err != nil || e.Type() != notify.TypeRaised || e.ID() != d.Alarm.ID || e.Subject() != "environments/prod-eu" || e.Source() != "/lockstep/"+id {
			t.Errorf("%v: %s", err, m.Body)
		}
		if said.Alarm != d.Alarm.ID || said.Author != "anna" || !slices.Equal(said.Stewards, []string{"team-a"}) || !slices.Equal(said.Owners, []string{"checkout"}) {
			t.Errorf("%+v", said)
		}
	}
}

func TestFindingsAreWhatTheFleetViewSays(t *testing.T) {
	view := fleet.View{AsOf: noon, Ledger: fleet.LedgerView{Writable: true}}
	for _, condition := range fleet.Conditions {
		view.Environments = append(view.Environments, fleet.Environment{Name: strings.ReplaceAll(string(condition), " ", "-"), Condition: condition, Steward: "team", LastChange: "c1"})
	}
	released := func(ago time.Duration) fleet.ChangeEnvironment {
		return fleet.ChangeEnvironment{Environment: "behind", Revision: 2, Released: noon.Add(-ago), Outcome: "waiting"}
	}
	changes := []fleet.Change{
		{ID: "c1", Status: string(ledger.StatusReleased), Author: "anna", Within: 60, Environments: []fleet.ChangeEnvironment{released(time.Hour)}},
		{ID: "c2", Status: string(ledger.StatusReleased), Author: "anna", Within: 60, Environments: []fleet.ChangeEnvironment{released(time.Second)}},
		{ID: "c3", Status: string(ledger.StatusOpen), Author: "ben", Proposed: noon.Add(-time.Hour), Demanded: 2,
			Environments: []fleet.ChangeEnvironment{{Environment: "torn"}, {Environment: "nobody's"}, {Environment: "behind"}}},
	}
	view.Environments[1].Agents = []fleet.Agent{{Differing: []events.DifferingResource{{Resource: "flag/a"}}}}
	view.Environments = append(view.Environments, fleet.Environment{Name: "nobody's", Condition: fleet.Silent})
	who := func(environment, change string, resources []string) (string, []string) {
		return "author of " + change, append([]string{"owner of " + environment + "/" + change}, resources...)
	}
	var got []string
	for _, f := range notify.Find(view, changes, who) {
		got = append(got, fmt.Sprintf("%s %s %s: %s", f.Rule, f.Environment, f.Change, f.People()))
	}
	want := []string{
		"failing torn : steward team; owner owner of torn/c1; proposed by author of c1",
		"differing differing : steward team; owner owner of differing/c1, flag/a; proposed by author of c1",
		"failing failing : steward team; owner owner of failing/c1; proposed by author of c1",
		"silent silent : steward team; owner owner of silent/c1; proposed by author of c1",
		"silent nobody's : no steward is set; owner owner of nobody's/; proposed by author of ",
		"late behind c1: steward team; owner owner of behind/c1; proposed by author of c1",
		"approval  c3: steward team; owner owner of /c3; proposed by author of c3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	view.Ledger = fleet.LedgerView{Reason: events.ReasonBusDown}
	if got := notify.Find(view, changes, nil); len(got) != 1 || got[0].Rule != notify.Ledger || got[0].People() != "whoever runs the publisher; steward team" {
		t.Errorf("while the ledger cannot be written: %+v", got)
	}
}

func TestAConfigurationIsReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		``:                              "targets: name at least one",
		`target: []`:                    "targets",
		`targets: [{url: "https://x"}]`: "name",
		`targets: [{name: a}]`:          "either url or urlFile",
		`targets: [{name: a, url: "https://x", urlFile: y}]`:                      "either url or urlFile",
		`targets: [{name: a, url: "ftp://secret"}]`:                               "write it as in https://",
		`targets: [{name: a, url: "https://x"}, {name: a, url: "https://y"}]`:     "stands twice",
		`targets: [{name: a, url: "https://x", format: smtp}]`:                    "want cloudevents or slack",
		`targets: [{name: a, url: "https://x", rules: [failin]}]`:                 `did you mean "failing"?`,
		`targets: [{name: a, url: "https://x", environments: ["["]}]`:             "is no pattern",
		"targets: [{name: a, url: \"https://x\"}]\nrules: {silence: {off: true}}": "there is no rule",
		"targets: [{name: a, url: \"https://x\"}]\nrules: {silent: {after: -1s}}": "less than nothing",
		"targets: [{name: a, url: \"https://x\"}]\nlink: nowhere":                 "link: write it",
		"targets: [{name: a, url: \"https://x\", secret: hello}]":                 "secret",
	} {
		_, err := notify.ParseConfig("notify.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ftp://secret") || !strings.HasPrefix(err.Error(), "notify.yaml:") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestABreakGlassIsToldAtOnceUntilItIsSignedOff: whoever used it does not do so quietly.
func TestABreakGlassIsToldAtOnceUntilItIsSignedOff(t *testing.T) {
	c := parse(t, twoTargets)
	view := fleet.View{Ledger: fleet.LedgerView{Writable: true}, Environments: []fleet.Environment{{Name: "prod", Steward: "emil", Condition: fleet.InStep}},
		Reviews: []fleet.OpenReview{{Change: "c4", Environments: []string{"prod"}, GlassBroken: ledger.GlassBroken{By: "carla", Reason: "nobody is here", At: noon}}}}
	who := func(string, string, []string) (string, []string) { return "anna", []string{"checkout"} }
	var s notify.State
	s.Step(c, id, notify.Find(view, nil, who), notify.Said{}, noon)
	got := sent(&s, c, noon)
	if len(got) != 1 || !strings.HasPrefix(got[0], "oncall:") {
		t.Errorf("sent %v", got)
	}
	open := notify.View(notify.Said{}, noon, &s).Open
	if len(open) != 1 || open[0].Change != "c4" || !strings.Contains(open[0].Message, "carla broke the glass for c4") ||
		open[0].People() != "two who may approve it, besides who broke the glass; steward emil; owner checkout; proposed by anna" {
		t.Errorf("%+v", open)
	}
	view.Reviews = nil
	for _, after := range []time.Duration{time.Minute, time.Hour} {
		s.Step(c, id, notify.Find(view, nil, who), notify.Said{}, noon.Add(after))
	}
	if ended := sent(&s, c, noon.Add(time.Hour)); len(ended) != 1 {
		t.Errorf("that it ended is sent %v", ended)
	}
}
