package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// A program is a fake that is costly to observe.
type program struct{ *connectortest.Fake }

func (p program) Capabilities() connector.Capabilities {
	can := p.Fake.Capabilities()
	can.Costly = true
	return can
}

// A looker is a chain at its checkpoint, whose instances are two fakes: the second is costly, and has the endpoints.
type looker struct {
	*chain
	t        *testing.T
	files    *connectortest.Fake
	program  *connectortest.Fake
	observed map[*connectortest.Fake]int
	broken   error // what observing answers
	log      bytes.Buffer
}

func newLooker(t *testing.T, pairs ...string) *looker {
	l := &looker{t: t, files: connectortest.NewFake("files"), program: connectortest.NewFake("program"), observed: map[*connectortest.Fake]int{}}
	for _, f := range []*connectortest.Fake{l.files, l.program} {
		f.Fault = func(op string) error {
			if op == "observe" {
				l.observed[f]++
				return l.broken
			}
			return nil
		}
	}
	router, err := connector.NewRouter([]connector.Route{
		{Resources: []connector.Glob{"variable/*", "flag/*", "secret/*"}, Connector: l.files}, {Resources: []connector.Glob{"endpoint/*"}, Connector: program{l.program}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.chain = &chain{log: zerolog.New(&l.log), opts: &Options{Router: router, Clock: time.Now, Intervals: Intervals{Check: 30 * time.Second}}, checkpoint: store.Checkpoint{Revision: 1}}
	for i := 0; i < len(pairs); i += 2 {
		l.applied.Set(pairs[i], fold.Resource{Value: json.RawMessage(pairs[i+1])})
		l.edit(pairs[i], pairs[i+1])
	}
	return l
}

// edit edits an instance by hand; an empty value deletes.
func (l *looker) edit(key, value string) {
	f := l.files
	if strings.HasPrefix(key, "endpoint/") {
		f = l.program
	}
	f.Instance().Set(key, json.RawMessage(value))
	if value == "" {
		f.Instance().Set(key, nil)
	}
}

// pass lets time go by as the chain's goroutine does: to whatever look comes next.
func (l *looker) pass(d time.Duration) {
	l.t.Helper()
	for until := time.Now().Add(d); ; {
		next := l.looks.next
		if next.After(until) {
			<-time.After(time.Until(until)) // in a bubble
			return
		}
		<-time.After(time.Until(next)) // in a bubble
		if !l.look(context.Background(), time.Now()) {
			l.t.Fatal("it did not look when it was time")
		}
	}
}

func (l *looker) differs(want ...string) {
	l.t.Helper()
	var got []string
	for _, d := range l.differing {
		got = append(got, d.String())
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("differing %q, want %q", got, want)
	}
}

func TestAHandEditIsToldByFieldWithinTheIntervalAndUntilItIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLooker(t, "variable/level", `"info"`, "flag/checkout", `{"state":"ENABLED","variants":{"off":false,"on":true}}`)
		l.pass(time.Minute)
		l.differs()
		l.edit("flag/checkout", `{"extra":1,"state":"DISABLED","variants":{"off":false,"on":true}}`)
		edited := time.Now()
		l.pass(30 * time.Second)
		l.differs("flag/checkout (/extra, /state)")
		if time.Until(l.looks.next) > 30*time.Second || l.chain.differs.Sub(edited) > 30*time.Second {
			t.Errorf("found after %s", l.chain.differs.Sub(edited))
		}
		since := l.chain.differs
		if l.checkpoint.Observed == l.applied.Digest() {
			t.Error("the read-back is called equal")
		}
		l.edit("variable/level", "")
		l.pass(30 * time.Second)
		l.differs("flag/checkout (/extra, /state)", "variable/level")
		if !l.chain.differs.Equal(since) {
			t.Error("since when it differs was forgotten")
		}
		l.pass(10 * time.Minute)
		l.edit("variable/level", `"info"`)
		l.pass(30 * time.Second)
		l.differs("flag/checkout (/extra, /state)")
		l.edit("flag/checkout", `{"state":"ENABLED","variants":{"off":false,"on":true}}`)
		l.pass(30 * time.Second)
		l.differs()
		if l.checkpoint.Observed != l.applied.Digest() {
			t.Error("the read-back is not that of the checkpoint again")
		}
		if said := l.log.String(); strings.Count(said, `"level":"error"`) != 3 || strings.Count(said, "again") != 1 || strings.Contains(said, "DISABLED") {
			t.Errorf("what changed is not said once each:\n%s", said)
		}
	})
}

// next is the next look, whenever it comes.
func (l *looker) next() {
	l.t.Helper()
	<-time.After(time.Until(l.looks.next)) // in a bubble
	if !l.look(context.Background(), time.Now()) {
		l.t.Fatal("it did not look when it was time")
	}
}

func TestWhatDiffersInOneLookOnlyDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLooker(t, "variable/a", `1`, "variable/b", `2`)
		l.next()
		soon := func() {
			t.Helper()
			if wait := time.Until(l.looks.next); wait != time.Second {
				t.Errorf("it looks again after %s", wait)
			}
		}
		l.edit("variable/a", `7`)
		l.next()
		soon()
		l.edit("variable/a", `1`)
		l.next()
		l.next()
		l.differs()

		l.broken = connector.Transient(connector.ReasonUnreadable, "half a file")
		l.next()
		soon()
		l.broken = nil
		l.next()
		if l.differs(); l.unread != nil {
			t.Errorf("unread: %v", l.unread.Err)
		}

		// What another writer changes in every look is told all the same, and nobody looks every second for ever.
		begun := time.Now()
		for i := range 20 {
			l.edit("variable/a", fmt.Sprint(i+10))
			l.edit("variable/b", fmt.Sprint(i+10))
			l.next()
		}
		l.differs("variable/a", "variable/b")
		if took := time.Since(begun); took < 5*time.Minute {
			t.Errorf("20 looks in %s", took)
		}
		if said := strings.Count(l.log.String(), "\n"); said != 1 {
			t.Errorf("%d lines are logged:\n%s", said, l.log.String())
		}
	})
}

func TestAnInstanceThatCannotBeReadAnyMoreIsNotInStepUntilItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLooker(t, "variable/a", `1`)
		l.next()
		l.broken = connector.Permanent(connector.ReasonUnreadable, "not JSON")
		l.pass(30 * time.Second)
		if l.unread == nil || reasonOf(l.unread.Err) != connector.ReasonUnreadable {
			t.Fatalf("unread: %+v", l.unread)
		}
		if !l.checkpoint.Observed.IsZero() {
			t.Error("what was read back before is still said")
		}
		l.broken = nil
		l.edit("variable/a", `2`)
		l.pass(30 * time.Second)
		if l.differs("variable/a"); l.unread != nil {
			t.Errorf("unread: %v", l.unread.Err)
		}
		l.edit("variable/a", `1`)
		l.pass(30 * time.Second)
		l.differs()
	})
}

func TestAProgramIsAskedRarelyUnlessSomethingDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLooker(t, "variable/a", `1`, "endpoint/crm", `{"url":"x"}`)
		l.see(readBack{})
		l.pass(time.Hour)
		if looks, runs := l.observed[l.files], l.observed[l.program]; looks < 120 || looks > 160 || runs < 12 || runs > 16 {
			t.Errorf("%d looks, %d runs of the program in an hour", looks, runs)
		}
		l.edit("endpoint/crm", `{"url":"y"}`)
		l.pass(5 * time.Minute)
		l.differs("endpoint/crm (/url)")
		l.edit("endpoint/crm", `{"url":"x"}`)
		l.pass(30 * time.Second)
		l.differs()
	})
}

func TestNothingIsComparedWhileTheInstanceIsMeantToBeElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*chain)
		looks  bool
	}{
		"at the checkpoint":            {func(*chain) {}, true},
		"held":                         {func(c *chain) { c.hold = &store.Hold{} }, true},
		"failing, put back":            {func(c *chain) { c.failure = &store.Failure{Word: events.WordFailed}; c.waiting = []link{{}} }, true},
		"retrying, nothing written":    {func(c *chain) { c.retry = &Retry{}; c.waiting = []link{{}} }, true},
		"nothing applied":              {func(c *chain) { c.checkpoint.Revision = 0 }, false},
		"written and not read back":    {func(c *chain) { c.between = true }, false},
		"an intent declared":           {func(c *chain) { c.intent = &store.Intent{} }, false},
		"torn":                         {func(c *chain) { c.failure = &store.Failure{Word: events.WordTorn} }, false},
		"unverified since the restart": {func(c *chain) { c.unverified = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLooker(t, "variable/a", `1`)
			c.change(l.chain)
			l.edit("variable/a", `2`)
			for i := range 2 {
				l.look(t.Context(), time.Now().Add(time.Duration(i+1)*time.Minute))
			}
			if found := len(l.differing) > 0; found != c.looks || !c.looks && l.observed[l.files] > 0 {
				t.Errorf("%v, %d times observed", l.differing, l.observed[l.files])
			}
		})
	}
}

func TestADifferenceTellsFieldsAndNoValue(t *testing.T) {
	long := strings.Repeat("x", longestPath)
	for name, c := range map[string]struct{ held, is, want string }{
		"another text":        {`"a"`, `"b"`, "k"},
		"not there":           {``, `{"a":1}`, "k"},
		"there and not to be": {`{"a":1}`, ``, "k"},
		"another kind":        {`[1]`, `{"a":1}`, "k"},
		"a member":            {`{"a":1,"b":2}`, `{"a":1,"b":3}`, "k (/b)"},
		"deep":                {`{"a":{"b":{"c":1}},"z":null}`, `{"a":{"b":{"c":2,"d":1}}}`, "k (/a/b/c, /a/b/d, /z)"},
		"a list is one field": {`{"a":[1,2]}`, `{"a":[1,3]}`, "k (/a)"},
		"names are escaped":   {`{"a/b~c":1}`, `{"a/b~c":2}`, "k (/a~1b~0c)"},
		"many":                {`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1}`, `{}`, "k (/a, /b, /c, /d, /e, /f, /g, /h and 2 more)"},
		"a name that is long": {`{"a":{"` + long + `1":1,"` + long + `2":1}}`, `{"a":{}}`, "k (/a)"},
		"the first is long":   {`{"` + long + `":1}`, `{}`, "k"},
	} {
		t.Run(name, func(t *testing.T) {
			d := difference("k", json.RawMessage(c.held), json.RawMessage(c.is))
			if d.String() != c.want {
				t.Errorf("%q, want %q", d, c.want)
			}
		})
	}
}

func TestOfASecretOnlyTheResourceIsTold(t *testing.T) {
	t.Setenv("CRM_TOKEN", "hunter2")
	synctest.Test(t, func(t *testing.T) {
		l := newLooker(t)
		l.opts.Secrets = Secrets{Env: []string{"CRM_TOKEN"}}
		l.applied.Set("variable/crm", fold.Resource{Value: json.RawMessage(`{"token":{"$secret":{"ref":"env://CRM_TOKEN"}},"user":"u"}`)})
		l.edit("variable/crm", `{"hunter2":1,"token":"hunter3","user":"x"}`)
		l.next()
		l.next()
		l.differs("variable/crm")
		if said := l.log.String(); strings.Contains(said, "hunter") || strings.Contains(said, "token") {
			t.Error(said)
		}
	})
}
