package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

func TestTheWorstConditionWins(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := start.Add(time.Hour)
	well := facts{now: now, started: start, revision: 7, followed: 7, head: 7, connected: true, pulse: now, checked: now,
		pulseEvery: 15 * time.Second, checkEvery: 30 * time.Second}
	torn := &store.Failure{Word: events.WordTorn, Reason: events.ReasonUndo, Since: start}
	failed := &store.Failure{Word: events.WordFailed, Reason: connector.ReasonWriteFailed, Since: start}
	hold := &store.Hold{Since: start, Until: now.Add(time.Hour), Reason: "audit"}
	for _, c := range []struct {
		name   string
		change func(*facts)
		word   string
		reason events.Reason
		since  time.Time
	}{
		{"all well", func(*facts) {}, InStep, "", time.Time{}},
		{"behind", func(f *facts) { f.head = 9 }, Behind, "", time.Time{}},
		{"retrying", func(f *facts) {
			f.followed, f.retry = 8, &Retry{Since: start, Reason: connector.ReasonDiskFull}
		}, Behind, connector.ReasonDiskFull, start},
		{"held", func(f *facts) { f.hold, f.followed = hold, 9 }, Held, events.ReasonHeldBySteward, start},
		{"a pulse within three intervals", func(f *facts) { f.pulse = now.Add(-45 * time.Second) }, InStep, "", time.Time{}},
		{"no pulse for more", func(f *facts) { f.pulse = now.Add(-46 * time.Second) }, Stale, events.ReasonNoPulse, now.Add(-46 * time.Second)},
		{"the head looked at within two", func(f *facts) { f.checked = now.Add(-60 * time.Second) }, InStep, "", time.Time{}},
		{"the head not looked at", func(f *facts) { f.checked = now.Add(-61 * time.Second) }, Stale, events.ReasonHeadUnchecked, start},
		{"stale is worse than held", func(f *facts) { f.pulse, f.hold = time.Time{}, hold }, Stale, events.ReasonNoPulse, start},
		{"the bus is away, but not for long", func(f *facts) { f.connected = false }, InStep, "", time.Time{}},
		{"the bus is away", func(f *facts) { f.connected, f.pulse = false, now.Add(-time.Minute) }, Stale, events.ReasonBusDown, now.Add(-time.Minute)},
		{"the bus does not let it in, though it did a moment ago", func(f *facts) { f.connected, f.refused = false, true }, Stale, events.ReasonBusRefused, now},
		{"just started", func(f *facts) { f.started, f.pulse, f.checked = now.Add(-time.Second), time.Time{}, time.Time{} }, Stale, events.ReasonStartup, now.Add(-time.Second)},
		{"restarted without the bus", func(f *facts) {
			f.started, f.pulse, f.checked, f.heard, f.connected = now, time.Time{}, time.Time{}, start, false
		}, Stale, events.ReasonBusDown, start},
		{"history is missing", func(f *facts) { f.checked, f.feed = start, fmt.Errorf("%w", bus.ErrHistoryMissing) }, Stale, events.ReasonHistoryMissing, start},
		{"failing is worse than stale", func(f *facts) { f.failure, f.pulse = failed, time.Time{} }, Failing, connector.ReasonWriteFailed, start},
		{"forked", func(f *facts) { f.feed = fmt.Errorf("%w", bus.ErrForked) }, Failing, events.ReasonLedgerForked, time.Time{}},
		{"truncated", func(f *facts) { f.ledger = events.Errorf(events.ReasonLedgerTruncated, "x") }, Failing, events.ReasonLedgerTruncated, time.Time{}},
		{"differing is worse than failing", func(f *facts) {
			f.failure, f.differing, f.differingSince = failed, []events.DifferingResource{{Resource: "variable/a"}}, start
		}, Differing, events.ReasonReadBack, start},
		{"not compared", func(f *facts) {
			f.unread = &unread{connector.Transient(connector.ReasonUnreadable, "root: gone"), start}
		}, Differing, connector.ReasonUnreadable, start},
		{"a release that fails is not hidden by an instance that cannot be read", func(f *facts) {
			f.failure, f.followed = failed, 8
			f.unread = &unread{connector.Permanent(connector.ReasonUnreadable, "not JSON"), now}
		}, Failing, connector.ReasonWriteFailed, start},
		{"behind, and what comes next is missing", func(f *facts) { f.head, f.feed = 9, fmt.Errorf("%w", bus.ErrHistoryMissing) }, Behind, events.ReasonHistoryMissing, time.Time{}},
		{"an apply that takes its time", func(f *facts) { f.head, f.followed, f.busy = 8, 8, now.Add(-30*time.Second) }, Behind, "", time.Time{}},
		{"an apply that does not end", func(f *facts) { f.head, f.followed, f.busy = 8, 8, now.Add(-31*time.Second) }, Behind, connector.ReasonTimeout, now.Add(-31 * time.Second)},
		{"a look at the instance that takes its time", func(f *facts) { f.busy = now.Add(-30 * time.Second) }, InStep, "", time.Time{}},
		{"a look at the instance that does not end", func(f *facts) { f.busy = now.Add(-31 * time.Second) }, Differing, connector.ReasonTimeout, now.Add(-31 * time.Second)},
		{"torn is the worst", func(f *facts) { f.failure, f.differing = torn, []events.DifferingResource{{Resource: "variable/a"}} }, Torn, events.ReasonUndo, start},
	} {
		f := well
		c.change(&f)
		got := judge(f, staleness(f))
		if got.Word != c.word || got.Reason != c.reason || (!c.since.IsZero() && !got.Since.Equal(c.since)) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if (got.Word != InStep) != (got.Message != "" || got.Word == Failing || got.Word == Torn || got.Word == Behind) {
			t.Errorf("%s: nothing is said about it: %+v", c.name, got)
		}
		if got.Reason != "" && strings.HasPrefix(got.Message, string(got.Reason)) {
			t.Errorf("%s: the reason is said twice: %+v", c.name, got)
		}
	}
}

// Silence is never green: whatever was heard, without anything new the agent is stale in time.
func TestSilenceBecomesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearing{ledger: foldtest.Ledger, allows: func(string) bool { return true }, clock: time.Now}
		started := time.Now()
		look := func() string {
			f := facts{now: time.Now(), started: started, revision: 1, connected: true, checked: time.Now(), pulse: h.now().at,
				pulseEvery: 15 * time.Second, checkEvery: 30 * time.Second}
			return judge(f, staleness(f)).Word
		}
		hear := func(counter uint64) {
			payload, signature, err := events.EncodePulse(events.Pulse{Ledger: foldtest.Ledger, Counter: counter, Clock: time.Now()}, foldtest.Signer(t, "publisher"))
			if err != nil {
				t.Fatal(err)
			}
			h.hear(payload, signature)
		}
		if got := look(); got != Stale {
			t.Errorf("before any pulse: %s", got)
		}
		hear(1)
		if got := look(); got != InStep {
			t.Errorf("after a pulse: %s", got)
		}
		time.Sleep(40 * time.Second)
		hear(1) // a replay
		time.Sleep(10 * time.Second)
		if got := look(); got != Stale {
			t.Errorf("a replayed pulse kept it %s", got)
		}
		hear(2)
		if got := look(); got != InStep {
			t.Errorf("after a new pulse: %s", got)
		}
	})
}

// Whatever is wrong with the instance, silence is told beside it.
func TestNoConditionHidesStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		failed := &store.Failure{Word: events.WordFailed, Reason: connector.ReasonWriteFailed, Since: started}
		torn := &store.Failure{Word: events.WordTorn, Reason: events.ReasonUndo, Since: started}
		well := facts{started: started, revision: 1, connected: true, pulse: started, checked: started, pulseEvery: 15 * time.Second, checkEvery: 30 * time.Second}
		cases := []struct {
			name   string
			change func(*facts)
			word   string
			reason events.Reason
		}{
			{"failing without a pulse", func(f *facts) { f.failure, f.checked = failed, f.now }, Failing, events.ReasonNoPulse},
			{"failing without the bus", func(f *facts) { f.failure, f.connected = failed, false }, Failing, events.ReasonBusDown},
			{"truncated without a pulse", func(f *facts) { f.ledger, f.checked = errors.New("truncated"), f.now }, Failing, events.ReasonNoPulse},
			{"differing without the bus", func(f *facts) { f.differing, f.connected = []events.DifferingResource{{Resource: "variable/a"}}, false }, Differing, events.ReasonBusDown},
			{"differing, the head unchecked", func(f *facts) { f.differing, f.pulse = []events.DifferingResource{{Resource: "variable/a"}}, f.now }, Differing, events.ReasonHeadUnchecked},
			{"torn without the bus", func(f *facts) { f.failure, f.connected = torn, false }, Torn, events.ReasonBusDown},
		}
		look := func(change func(*facts)) (Condition, *Staleness) {
			f := well
			f.now = time.Now()
			change(&f)
			stale := staleness(f)
			return judge(f, stale), stale
		}
		for _, c := range cases {
			if got, stale := look(c.change); got.Word != c.word || stale != nil {
				t.Errorf("%s, at once: %+v, %+v", c.name, got, stale)
			}
		}
		time.Sleep(time.Hour)
		for _, c := range cases {
			if got, stale := look(c.change); got.Word != c.word || stale == nil || stale.Reason != c.reason || !stale.Since.Equal(started) || stale.Message == "" {
				t.Errorf("%s, an hour later: %+v, %+v", c.name, got, stale)
			}
		}
	})
}

func TestReadinessNeedsAWholeInstanceThatIsNotStaleForLong(t *testing.T) {
	now := time.Now()
	status := func(word string, age time.Duration, revision uint64, whole bool) Status {
		s := Status{Condition: Condition{Word: word, Since: now.Add(-age), Message: word}, Checkpoint: store.Checkpoint{Revision: revision}, Whole: whole}
		if word == Stale {
			s.Stale = &Staleness{Reason: events.ReasonNoPulse, Since: s.Condition.Since}
		}
		return s
	}
	alsoStale := func(word string, age time.Duration) Status {
		s := status(word, 24*time.Hour, 1, true)
		s.Stale = &Staleness{Reason: events.ReasonBusDown, Since: now.Add(-age)}
		return s
	}
	for _, c := range []struct {
		name string
		s    Status
		want bool
	}{
		{"in step", status(InStep, 0, 1, true), true},
		{"failing serves the last good revision", status(Failing, time.Hour, 1, true), true},
		{"stale for a moment", status(Stale, time.Minute, 1, true), true},
		{"stale for long", status(Stale, time.Hour, 1, true), false},
		{"failing, and stale for a moment", alsoStale(Failing, time.Minute), true},
		{"failing, and stale for long", alsoStale(Failing, time.Hour), false},
		{"differing, and stale for long", alsoStale(Differing, time.Hour), false},
		{"torn", status(Torn, 0, 1, true), false},
		{"not resolved yet", status(InStep, 0, 1, false), false},
		{"nothing applied", status(InStep, 0, 0, true), false},
	} {
		got := readiness(c.s, now, 2*time.Minute)
		if got.Ready != c.want || (!got.Ready && got.Message == "") {
			t.Errorf("%s: %+v", c.name, got)
		}
		if (got.Stale != nil) != (c.s.Stale != nil) || (got.Stale != nil && got.Stale.Age != now.Sub(c.s.Stale.Since).Seconds()) {
			t.Errorf("%s: stale %+v", c.name, got.Stale)
		}
	}
}

func TestSecretReferencesAreResolvedOnlyWhereTheyMayBe(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "crm"), "s3cr3t\n")
	write(filepath.Join(dir, "binary"), "\xff\xfe")
	write(filepath.Join(dir, "large"), strings.Repeat("x", maxSecret+1))
	write(filepath.Join(outside, "other"), "0ther")
	if err := os.Symlink(filepath.Join(outside, "other"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CRM_TOKEN", `to"ken`)
	s := Secrets{Env: []string{"CRM_*"}, Files: []string{dir}}
	ref := func(r string) string { return `{"$secret":{"ref":"` + r + `"}}` }
	for _, c := range []struct {
		value, want string
		permanent   bool
	}{
		{`{"a":1}`, `{"a":1}`, false},
		{ref("env://CRM_TOKEN"), `"to\"ken"`, false},
		{`[{"x":` + ref("env://CRM_TOKEN") + `},null]`, `[{"x":"to\"ken"},null]`, false},
		{ref("file://" + dir + "/crm"), `"s3cr3t"`, false},
		{ref("env://CRM_MISSING"), "", false},
		{ref("env://PATH"), "", true},
		{ref("file://" + dir + "/missing"), "", false},
		{ref("file://" + dir + "/binary"), "", true},
		{ref("file://" + dir + "/large"), "", true},
		{ref("file://" + outside + "/other"), "", true},
		{ref("file://" + dir + "/../" + filepath.Base(outside) + "/other"), "", true},
		{ref("file://" + dir + "/link"), "", false},
		{ref("vault://x/y"), "", true},
		{`{"$secret":{"ref":"env://CRM_TOKEN","more":1}}`, "", true},
	} {
		got, err := s.resolve(json.RawMessage(c.value))
		if c.want != "" {
			if err != nil || string(got) != c.want {
				t.Errorf("%s: %s, %v", c.value, got, err)
			}
			continue
		}
		e := connector.AsError(err)
		if e == nil || e.Reason != events.ReasonSecret || e.Permanent != c.permanent {
			t.Errorf("%s: %s, %v", c.value, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "0ther") || strings.Contains(err.Error(), "xxx")) {
			t.Errorf("%s: the error shows it: %v", c.value, err)
		}
	}
	if got := string(redact(json.RawMessage(`{"a":[` + ref("env://CRM_TOKEN") + `]}`))); got != `{"a":["<secret env://CRM_TOKEN>"]}` {
		t.Errorf("redacted: %s", got)
	}
}

func TestAPendingRunIsUsedOnlyAsThePublisherSignedIt(t *testing.T) {
	p := foldtest.New(t)
	releases := append(p.Trust("dev"), p.Change(foldtest.Set("dev", "variable/a", "1")).Releases...)
	links := func(list ...foldtest.Release) (out []link) {
		for _, r := range list {
			out = append(out, link{release: received{Release: bus.Release{Revision: r.Revision, Chain: r.Chain, Stored: bus.Stored{Payload: r.Payload, Signature: r.Header}}}})
		}
		return out
	}
	verify := func(chain events.Digest, signature string) error {
		return events.VerifyWave(foldtest.Ledger, chain, signature, func(key string) bool { return key == p.Signer.Public() })
	}
	start := bus.Position{Chain: events.ChainStart(foldtest.Ledger, "dev")}
	at1 := bus.Position{Revision: 1, Chain: releases[0].Chain}
	altered := releases[1]
	altered.Payload = []byte(strings.Replace(string(altered.Payload), `"ann"`, `"eve"`, 1))
	for _, c := range []struct {
		name  string
		write []link
		at    bus.Position
		want  int
		fails bool
	}{
		{"both", links(releases...), start, 2, false},
		{"the first is committed", links(releases...), at1, 1, false},
		{"all are committed", links(releases...), bus.Position{Revision: 2, Chain: releases[1].Chain}, 0, false},
		{"a gap", links(releases[1]), start, 0, true},
		{"altered", links(releases[0], altered), start, 0, true},
		{"another chain", links(releases[1]), bus.Position{Revision: 1, Chain: events.Sum(nil)}, 0, true},
	} {
		dir := t.TempDir()
		if err := writePending(dir, c.write, nil); err != nil {
			t.Fatal(err)
		}
		run, err := readPending(dir, c.at, verify)
		if len(run) != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d releases, %v", c.name, len(run), err)
		}
	}
	dir := t.TempDir()
	if run, err := readPending(dir, start, verify); run != nil || err != nil {
		t.Errorf("no file: %v, %v", run, err)
	}
	if err := os.WriteFile(filepath.Join(dir, pendingFile), []byte(`{"releases":[{"pay`), 0o600); err != nil {
		t.Fatal(err)
	}
	if run, err := readPending(dir, start, verify); run != nil || err == nil {
		t.Errorf("cut off: %v, %v", run, err)
	}
	if err := removePending(dir); err != nil {
		t.Error(err)
	}
	if err := removePending(dir); err != nil {
		t.Error(errors.Join(errors.New("removed twice"), err))
	}
}
