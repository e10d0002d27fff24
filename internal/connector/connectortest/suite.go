// Package connectortest holds what tests of connectors and of their callers need: the contract suite, which every connector passes,
// and Fake, a connector in memory that passes it too and fails where it is told to.
package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/connector"
)

// A Fixture is one fresh instance for one test of the suite.
type Fixture struct {
	// Open opens the connector on the instance, again after each Close, as a restart does. It is closed if it is an io.Closer.
	Open func(t *testing.T) connector.Connector
	// Keys are three keys that the connector takes and that are absent at first.
	Keys [3]string
	// Foreign sets a key to a text as somebody else would, behind the connector's back.
	Foreign func(t *testing.T, key, text string)
	// Rest, when set, is everything in the instance that is not the connector's: it must never change.
	Rest func(t *testing.T) string
	// FailHalfway, when set, makes the next Apply of this connector fail after a part of its effects.
	FailHalfway func(t *testing.T, c connector.Connector)
}

// secret is a value that must never be seen in units and errors.
const secret = "s3cret-canary"

// Run runs the contract suite; fresh gives a new instance to each test.
func Run(t *testing.T, fresh func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		run  func(h *harness)
	}{
		{"what is applied is observed in its normal form", (*harness).appliedIsObserved},
		{"deleting makes keys absent and leaves others", (*harness).deleting},
		{"observe and plan write nothing", (*harness).readersWriteNothing},
		{"a plan names every change and nothing else", (*harness).planNamesChanges},
		{"applying again does nothing", (*harness).applyingAgain},
		{"an apply over somebody's later change is refused", (*harness).applyOverForeign},
		{"undo in the same process puts back", (*harness).undoInProcess},
		{"undo after a restart puts back from the unit's JSON", (*harness).undoAfterRestart},
		{"undo before the apply leaves everything", (*harness).undoUnapplied},
		{"undo leaves somebody's change and says so", (*harness).undoForeign},
		{"undo without a pre-image proves nothing", (*harness).undoWithoutPreImage},
		{"a failed apply can be put back", (*harness).failedApply},
		{"values that nothing can hold are refused for good", (*harness).unsupported},
		{"a cancelled context changes nothing", (*harness).cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &harness{T: t, Fixture: fresh(t)}
			h.c = h.Open(t)
			rest := ""
			if h.Rest != nil {
				rest = h.Rest(t)
			}
			test.run(h)
			if h.Rest != nil && h.Rest(t) != rest {
				t.Errorf("what is not the connector's changed:\n%s\nnow:\n%s", rest, h.Rest(t))
			}
			h.close()
		})
	}
}

type harness struct {
	*testing.T
	Fixture
	c connector.Connector
}

func (h *harness) close() {
	if closer, ok := h.c.(io.Closer); ok {
		if err := closer.Close(); err != nil {
			h.Error(err)
		}
	}
}

func (h *harness) restart() {
	h.close()
	h.c = h.Open(h.T)
}

// ok fails on an error, and on one that tells a secret.
func (h *harness) ok(err error) {
	h.Helper()
	h.noSecret(err)
	if err != nil {
		h.Fatal(err)
	}
}

func (h *harness) noSecret(err error) {
	h.Helper()
	if err != nil && strings.Contains(err.Error(), secret) {
		h.Errorf("the error tells a value: %v", err)
	}
}

// want is a target: pairs of values by position of the key, "" for absent.
func (h *harness) want(texts ...string) connector.Values {
	v := connector.Values{}
	for i, text := range texts {
		v[h.Keys[i]] = nil
		if text != "" {
			v[h.Keys[i]] = quote(text)
		}
	}
	return v
}

func quote(text string) json.RawMessage {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // text is text
	}
	return b
}

func (h *harness) plan(want connector.Values) connector.Plan {
	h.Helper()
	plan, err := h.c.Plan(h.Context(), want)
	h.ok(err)
	units, err := json.Marshal(plan.Units)
	h.ok(err)
	if strings.Contains(string(units), secret) {
		h.Errorf("units tell a value: %s", units)
	}
	return plan
}

func (h *harness) apply(texts ...string) connector.Plan {
	h.Helper()
	plan := h.plan(h.want(texts...))
	h.ok(h.c.Apply(h.Context(), plan))
	return plan
}

// holds asserts what the instance holds.
func (h *harness) holds(texts ...string) {
	h.Helper()
	got, err := h.c.Observe(h.Context(), h.want(texts...))
	h.ok(err)
	want := connector.Values{}
	for k, v := range h.want(texts...) {
		if v != nil {
			normal, err := h.c.Normal(k, v)
			h.ok(err)
			want[k] = normal
		}
	}
	if !slices.Equal(got.Keys(), want.Keys()) {
		h.Fatalf("the instance holds %v, want %v", got.Keys(), want.Keys())
	}
	for k := range want {
		if !bytes.Equal(got[k], want[k]) {
			h.Fatalf("%s is %s, want %s", k, got[k], want[k])
		}
	}
}

func (h *harness) appliedIsObserved() {
	h.holds("", "", "")
	h.apply("one", secret)
	h.holds("one", secret, "")
	h.apply("one", "two", "three")
	h.holds("one", "two", "three")
	h.restart()
	h.holds("one", "two", "three")
}

func (h *harness) deleting() {
	h.apply("one", "two", "three")
	h.apply("one", "", "three")
	h.holds("one", "", "three")
	h.apply("", "", "")
	h.holds("", "", "")
	if plan := h.plan(h.want("", "", "")); len(plan.Units) != 0 {
		h.Errorf("deleting what is absent changes %v", plan.Units)
	}
}

func (h *harness) readersWriteNothing() {
	h.apply("one")
	h.plan(h.want("other", "two", "three"))
	h.holds("one", "", "")
	h.restart()
	h.holds("one", "", "")
}

func (h *harness) planNamesChanges() {
	h.apply("one", "two")
	plan := h.plan(h.want("one", "", "three"))
	var named []string
	for _, change := range plan.Changes {
		named = append(named, change.Key)
		if (change.Key == h.Keys[1]) != (change.After == nil) || (change.Key == h.Keys[2]) != (change.Before == nil) || change.Place == "" {
			h.Errorf("change %+v", change)
		}
	}
	slices.Sort(named)
	want := []string{h.Keys[1], h.Keys[2]}
	slices.Sort(want)
	if !slices.Equal(named, want) {
		h.Errorf("the plan names %v, want %v", named, want)
	}
	for _, u := range plan.Units {
		if u.Connector != h.c.Name() || u.ID == "" || u.Before == u.After || u.PreImage != "" {
			h.Errorf("unit %+v", u)
		}
	}
	if len(plan.Units) == 0 {
		h.Error("a plan with changes has no units")
	}
}

func (h *harness) applyingAgain() {
	plan := h.apply("one", "two")
	h.ok(h.c.Apply(h.Context(), plan))
	h.holds("one", "two", "")
	if again := h.plan(h.want("one", "two")); len(again.Units)+len(again.Changes) != 0 {
		h.Errorf("planning what is there changes %v", again.Units)
	}
	h.ok(h.c.Apply(h.Context(), connector.Plan{}))
}

func (h *harness) applyOverForeign() {
	h.apply("one", "two", "three")
	plan := h.plan(h.want("other", secret, "more"))
	h.Foreign(h.T, h.Keys[1], "somebody's")
	err := h.c.Apply(h.Context(), plan)
	h.noSecret(err)
	if e := connector.AsError(err); !errors.Is(err, connector.ErrForeign) || e.Reason != connector.ReasonForeignChange {
		h.Fatalf("got %v", err)
	}
	h.holds("one", "somebody's", "three")
}

func (h *harness) undoInProcess() {
	h.apply("one", "two")
	plan := h.apply("", "changed", "three")
	for range 2 { // twice does no harm
		h.ok(h.c.Undo(h.Context(), plan.Units))
		h.holds("one", "two", "")
	}
}

func (h *harness) undoAfterRestart() {
	h.apply("one", "two")
	plan := h.plan(h.want("", secret, "three"))
	h.ok(h.c.Prepare(h.Context(), &plan, h.TempDir()))
	h.ok(h.c.Apply(h.Context(), plan))
	stored, err := json.Marshal(plan.Units)
	h.ok(err)
	if strings.Contains(string(stored), secret) {
		h.Errorf("units tell a value: %s", stored)
	}
	h.restart()
	h.holds("", secret, "three")
	var units []connector.Unit
	h.ok(json.Unmarshal(stored, &units))
	for range 2 {
		h.ok(h.c.Undo(h.Context(), units))
		h.holds("one", "two", "")
	}
}

func (h *harness) undoUnapplied() {
	h.apply("one")
	plan := h.plan(h.want("other", "two"))
	h.ok(h.c.Prepare(h.Context(), &plan, h.TempDir()))
	h.ok(h.c.Undo(h.Context(), plan.Units))
	h.holds("one", "")
	h.restart()
	h.ok(h.c.Undo(h.Context(), plan.Units))
	h.holds("one", "")
}

func (h *harness) undoForeign() {
	h.apply("one")
	plan := h.plan(h.want(secret))
	h.ok(h.c.Prepare(h.Context(), &plan, h.TempDir()))
	h.ok(h.c.Apply(h.Context(), plan))
	h.Foreign(h.T, h.Keys[0], "somebody's")
	for range 2 {
		err := h.c.Undo(h.Context(), plan.Units)
		h.noSecret(err)
		if e := connector.AsError(err); !errors.Is(err, connector.ErrForeign) || e.Reason != connector.ReasonForeignChange {
			h.Fatalf("got %v", err)
		}
		h.holds("somebody's")
		h.restart()
	}
}

func (h *harness) undoWithoutPreImage() {
	h.apply("one")
	plan := h.apply("two")
	h.restart()
	err := h.c.Undo(h.Context(), plan.Units)
	if e := connector.AsError(err); e == nil || e.Reason != connector.ReasonPreImageLost || !e.Permanent {
		h.Fatalf("got %v", err)
	}
	h.holds("two")
}

func (h *harness) failedApply() {
	if h.FailHalfway == nil {
		return // an instance that changes in one step has no half
	}
	for _, restart := range []bool{false, true} {
		h.apply("one", "two", "")
		plan := h.plan(h.want("", secret, "three"))
		h.ok(h.c.Prepare(h.Context(), &plan, h.TempDir()))
		h.FailHalfway(h.T, h.c)
		err := h.c.Apply(h.Context(), plan)
		h.noSecret(err)
		if err == nil {
			h.Fatal("the apply did not fail")
		}
		if restart {
			h.restart()
		}
		h.ok(h.c.Undo(h.Context(), plan.Units))
		h.holds("one", "two", "")
	}
	h.apply("", secret, "three")
	h.holds("", secret, "three")
}

func (h *harness) unsupported() {
	for _, bad := range []string{``, `{`, `9007199254740993`, `{"a":1,"a":2}`, `"\ud800"`, `1e999`, `"` + secret + `" "`} {
		_, err := h.c.Normal(h.Keys[0], json.RawMessage(bad))
		h.noSecret(err)
		if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonValueUnsupported {
			h.Errorf("%q: %v", bad, err)
		}
		_, err = h.c.Plan(h.Context(), connector.Values{h.Keys[0]: json.RawMessage(bad)})
		h.noSecret(err)
		if err == nil && bad != "" {
			h.Errorf("%q is planned", bad)
		}
	}
	h.holds("")
}

func (h *harness) cancelled() {
	h.apply("one")
	plan := h.plan(h.want("two"))
	ctx, cancel := context.WithCancel(h.Context())
	cancel()
	_, observeErr := h.c.Observe(ctx, h.want("two"))
	_, planErr := h.c.Plan(ctx, h.want("two"))
	for _, err := range []error{observeErr, planErr, h.c.Prepare(ctx, &plan, h.TempDir()), h.c.Apply(ctx, plan), h.c.Undo(ctx, plan.Units)} {
		if e := connector.AsError(err); e == nil || e.Permanent || e.Reason != connector.ReasonTimeout {
			h.Errorf("got %v", err)
		}
	}
	h.holds("one")
}
