package fold_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// at is a fold of its own at everything that was published to an environment.
func at(t testing.TB, name string, releases ...[]foldtest.Release) *fold.Environment {
	t.Helper()
	e := fold.New(foldtest.Ledger, name)
	for _, wave := range releases {
		for _, r := range wave {
			if r.Environment == name {
				accept(t, e, r)
			}
		}
	}
	return e
}

func accept(t testing.TB, e *fold.Environment, r foldtest.Release) *fold.Step {
	t.Helper()
	step, err := e.Accept(r.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

// refuse says that a release is refused with a reason, and that the fold is as it was.
func refuse(t testing.TB, e *fold.Environment, payload []byte, want events.Reason) {
	t.Helper()
	before := snapshot(e)
	_, err := e.Accept(payload)
	if err == nil || events.ReasonOf(err) != want {
		t.Errorf("have the error %v, want the reason %s", err, want)
	}
	if after := snapshot(e); after != before {
		t.Errorf("a refused release changed the fold from\n%s\nto\n%s", before, after)
	}
}

// snapshot is everything that a fold knows, as text.
func snapshot(e *fold.Environment) string {
	type resource struct {
		Key    string
		Value  json.RawMessage
		Setter events.Digest
	}
	var resources []resource
	for key, r := range e.State.All() {
		resources = append(resources, resource{key, r.Value, r.Setter})
	}
	b, err := json.Marshal(struct {
		Revision  uint64
		Chain     events.Digest
		Released  time.Time
		Trust     *events.Trust
		Resources []resource
		Accepted  map[events.Digest]fold.Accepted
		State     events.Digest
	}{e.Revision, e.Chain, e.Released, e.Trust, resources, e.Accepted, e.State.Digest()})
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func value(e *fold.Environment, key string) string {
	r, ok := e.State.Get(key)
	switch {
	case !ok:
		return "never set"
	case r.Value == nil:
		return "deleted"
	}
	return string(r.Value)
}

func TestOnlyWhatWasApprovedIsApplied(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev", "prod")
	first := p.Change(foldtest.Set("dev", "variable/a", `1`), foldtest.Set("prod", "variable/a", `1`))
	draft := func() events.Release {
		return p.Draft(foldtest.Set("dev", "variable/a", `2`), foldtest.Delete("prod", "variable/a"), foldtest.Set("prod", "variable/b", `[1]`))[1]
	}
	for _, c := range []struct {
		what  string
		alter func(r *events.Release)
		want  events.Reason
	}{
		{"another value", func(r *events.Release) { r.Operations[1].Value = json.RawMessage(`[2]`) }, events.ReasonLeafPath},
		{"another key", func(r *events.Release) { r.Operations[1].Key = "variable/c" }, events.ReasonLeafPath},
		{"another order", func(r *events.Release) { r.Operations[0], r.Operations[1] = r.Operations[1], r.Operations[0] }, events.ReasonLeafPath},
		{"another base", func(r *events.Release) { r.Operations[1].Base = first.Digest }, events.ReasonLeafPath},
		{"one operation less", func(r *events.Release) { r.Operations = r.Operations[:1] }, events.ReasonLeafPath},
		{"one operation more", func(r *events.Release) {
			r.Operations = append(r.Operations, events.Operation{Op: events.OpDelete, Key: "variable/c"})
		}, events.ReasonLeafPath},
		{"another inverse", func(r *events.Release) { r.Change.Inverse = events.Sum(nil) }, events.ReasonLeafPath},
		{"another change id", func(r *events.Release) { r.Change.ID = "change-0000" }, events.ReasonLeafPath},
		{"another digest", func(r *events.Release) { r.Change.Digest = first.Digest }, events.ReasonLeafPath},
		{"another place", func(r *events.Release) { r.Change.Index = 0 }, events.ReasonLeafPath},
		{"another size", func(r *events.Release) { r.Change.Size = 1 }, events.ReasonLeafPath},
		{"no path", func(r *events.Release) { r.Change.Path = nil }, events.ReasonLeafPath},
		{"a longer path", func(r *events.Release) { r.Change.Path = append(r.Change.Path, events.Sum(nil)) }, events.ReasonLeafPath},
		{"no approval", func(r *events.Release) { r.Change.Approvals = nil }, events.ReasonApprovals},
		{"the author's own approval", func(r *events.Release) { r.Change.Approvals[0].By = r.Change.Author }, events.ReasonApprovals},
		{"one approval twice", func(r *events.Release) { r.Change.Approvals = append(r.Change.Approvals, r.Change.Approvals[0]) }, events.ReasonApprovals},
		{"another state digest", func(r *events.Release) { r.State = events.Sum(nil) }, events.ReasonStateMismatch},
		{"no state digest", func(r *events.Release) { r.State = events.Digest{} }, events.ReasonStateMismatch},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := draft()
			c.alter(&r)
			refuse(t, at(t, "prod", trust, first.Releases), p.Seal(r)[0].Payload, c.want)
		})
	}
	accept(t, at(t, "prod", trust, first.Releases), p.Seal(draft())[0])
}

// TestOperationsOfAnotherEnvironmentAreNotApproved moves a good release of dev to prod, with everything in it made to fit.
func TestOperationsOfAnotherEnvironmentAreNotApproved(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev", "prod")
	r := p.Draft(foldtest.Set("dev", "variable/a", `1`), foldtest.Set("prod", "variable/a", `2`))[0]
	prod := at(t, "prod", trust)
	r.Environment, r.Previous = "prod", prod.Chain
	refuse(t, prod, p.Seal(r)[0].Payload, events.ReasonLeafPath)
}

// TestAnInverseThatLiesIsRefused: an approved inverse that brings back something else than what the change replaces.
func TestAnInverseThatLiesIsRefused(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev")
	r := p.Draft(foldtest.Set("dev", "variable/a", `1`))[0]
	inverse, err := events.OperationsDigest([]events.Inverse{{Op: events.OpSet, Key: "variable/a", Value: json.RawMessage(`"root"`)}})
	if err != nil {
		t.Fatal(err)
	}
	r.Change.Inverse = inverse
	operations, err := events.OperationsDigest(r.Operations)
	if err != nil {
		t.Fatal(err)
	}
	if r.Change.Digest, _, err = events.ChangeDigest([]events.Leaf{{Change: r.Change.ID, Environment: "dev", Inverse: inverse, Operations: operations}}); err != nil {
		t.Fatal(err)
	}
	refuse(t, at(t, "dev", trust), p.Seal(r)[0].Payload, events.ReasonInverse)
}

func TestOneOrder(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev")
	first := p.Change(foldtest.Set("dev", "variable/a", `1`)).Releases
	second := p.Change(foldtest.Set("dev", "variable/a", `2`)).Releases
	third := p.Change(foldtest.Set("dev", "variable/b", `3`)).Releases

	refuse(t, at(t, "dev"), first[0].Payload, events.ReasonRevisionGap)
	refuse(t, at(t, "dev", trust), second[0].Payload, events.ReasonRevisionGap)
	refuse(t, at(t, "dev", trust, first), third[0].Payload, events.ReasonRevisionGap)
	refuse(t, at(t, "dev", trust, first, second), first[0].Payload, events.ReasonRevisionGap)
	refuse(t, at(t, "dev", trust, first, second), second[0].Payload, events.ReasonRevisionGap)
	refuse(t, at(t, "dev", trust, first, second), trust[0].Payload, events.ReasonRevisionGap)

	// The same revision on another history.
	other := foldtest.New(t)
	otherTrust := other.Trust("dev")
	other.Change(foldtest.Set("dev", "variable/a", `"other"`))
	fork := other.Change(foldtest.Set("dev", "variable/a", `2`)).Releases
	refuse(t, at(t, "dev", trust, first), fork[0].Payload, events.ReasonChainBroken)
	if otherTrust[0].Chain != trust[0].Chain {
		t.Error("two publishers of one ledger begin differently")
	}

	// The same content with one byte of its provenance altered has another chain digest, so that nothing follows it.
	r, _, err := events.DecodeRelease(first[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	r.Change.Reason += "."
	e := at(t, "dev", trust)
	accept(t, e, p.Seal(r)[0])
	refuse(t, e, second[0].Payload, events.ReasonChainBroken)
}

func TestAReleaseIsForOneEnvironmentOfOneLedger(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev", "prod")
	refuse(t, at(t, "dev"), trust[1].Payload, events.ReasonWrongEnvironment)
	r, _, err := events.DecodeRelease(trust[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	r.Ledger = "another"
	refuse(t, at(t, "dev"), p.Seal(r)[0].Payload, events.ReasonWrongLedger)
	if events.ChainStart("l", "dev") == events.ChainStart("l", "prod") || events.ChainStart("l", "dev") == events.ChainStart("m", "dev") {
		t.Error("two chains have one start")
	}
}

func TestRevisionOneIsTrust(t *testing.T) {
	p := foldtest.New(t)
	r := p.Draft(foldtest.Set("dev", "variable/a", `1`))[0]
	refuse(t, at(t, "dev"), p.Seal(r)[0].Payload, events.ReasonTrust)
}

func TestTrustDocumentsFollowEachOther(t *testing.T) {
	p := foldtest.New(t)
	first := p.Trust("dev")
	good := events.Trust{Version: 2, Ledger: p.Ledger, Publishers: []string{"U"}, Approvals: events.ApprovalsAreNames}
	for what, alter := range map[string]func(*events.Trust){
		"the same version":  func(d *events.Trust) { d.Version = 1 },
		"a version skipped": func(d *events.Trust) { d.Version = 3 },
		"another ledger":    func(d *events.Trust) { d.Ledger = "another" },
		"no publisher":      func(d *events.Trust) { d.Publishers = nil },
	} {
		t.Run(what, func(t *testing.T) {
			bad := good
			alter(&bad)
			refuse(t, at(t, "dev", first), p.Seal(p.DraftTrust(bad, "dev")...)[0].Payload, events.ReasonTrust)
		})
	}
	e := at(t, "dev", first)
	step := accept(t, e, p.Seal(p.DraftTrust(good, "dev")...)[0])
	if e.Trust.Version != 2 {
		t.Errorf("trust %+v", e.Trust)
	}
	e.Revert(step)
	if e.Trust.Version != 1 {
		t.Errorf("trust %+v after it was taken back", e.Trust)
	}

	// An environment that is added later begins with the document of that day.
	late := p.DraftTrust(events.Trust{Version: 7, Ledger: p.Ledger, Publishers: []string{"U"}, Approvals: events.ApprovalsAreNames}, "late")
	accept(t, at(t, "late"), p.Seal(late...)[0])
	none := p.DraftTrust(events.Trust{Version: 0, Ledger: p.Ledger, Publishers: []string{"U"}}, "late")
	refuse(t, at(t, "late"), p.Seal(none...)[0].Payload, events.ReasonTrust)
}

func TestAChangeIsAcceptedOnce(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev")
	first := p.Change(foldtest.Set("dev", "variable/a", `1`))
	replay := func(e *fold.Environment) []byte {
		r, _, err := events.DecodeRelease(first.Releases[0].Payload)
		if err != nil {
			t.Fatal(err)
		}
		r.Revision, r.Previous = e.Revision+1, e.Chain
		return p.Seal(r)[0].Payload
	}
	refuse(t, at(t, "dev", trust, first.Releases), replay(p.Environment("dev")), events.ReasonAlreadyAccepted)
	back := p.Rollback(first)
	refuse(t, at(t, "dev", trust, first.Releases, back), replay(p.Environment("dev")), events.ReasonAlreadyAccepted)

	// Proposed again it is another change, even with the same operations.
	again := p.Change(foldtest.Set("dev", "variable/a", `1`))
	if again.Digest == first.Digest {
		t.Error("two changes have one digest")
	}
	if e := at(t, "dev", trust, first.Releases, back, again.Releases); value(e, "variable/a") != `1` {
		t.Error(value(e, "variable/a"))
	}
}

func TestAMovedBaseIsNotOverwritten(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev")
	mine := p.Draft(foldtest.Set("dev", "variable/a", `"mine"`))[0]
	theirs := p.Change(foldtest.Set("dev", "variable/a", `"theirs"`))
	e := at(t, "dev", trust, theirs.Releases)
	mine.Revision, mine.Previous = e.Revision+1, e.Chain
	refuse(t, e, p.Seal(mine)[0].Payload, events.ReasonBaseMoved)

	_, err := e.Invert(mine.Operations)
	if events.ReasonOf(err) != events.ReasonBaseMoved || !strings.Contains(err.Error(), "change "+theirs.ID) {
		t.Errorf("the error %v does not name %s", err, theirs.ID)
	}
}

func TestAKeyStandsOnceInAChange(t *testing.T) {
	e := at(t, "dev", foldtest.New(t).Trust("dev"))
	op := events.Operation{Op: events.OpSet, Key: "variable/a", Value: json.RawMessage(`1`)}
	if _, err := e.Invert([]events.Operation{op, op}); events.ReasonOf(err) != events.ReasonMalformed {
		t.Error(err)
	}
}

func TestRollbackGoesForwardAndBringsBackValueAndSetter(t *testing.T) {
	p := foldtest.New(t)
	p.Trust("dev")
	p.Change(foldtest.Set("dev", "variable/kept", `0`), foldtest.Set("dev", "variable/set", `"old"`), foldtest.Set("dev", "variable/gone", `"old"`))
	p.Change(foldtest.Delete("dev", "variable/gone"))
	e := p.Environment("dev")
	before := snapshot(e)
	digest, revision := e.State.Digest(), e.Revision

	keys := []string{"variable/set", "variable/gone", "variable/new", "variable/kept"}
	resources := map[string]fold.Resource{}
	for _, key := range keys {
		resources[key], _ = e.State.Get(key)
	}
	one := p.Change(foldtest.Set("dev", "variable/set", `"one"`), foldtest.Set("dev", "variable/gone", `"one"`), foldtest.Set("dev", "variable/new", `"one"`), foldtest.Delete("dev", "variable/kept"))
	two := p.Change(foldtest.Set("dev", "variable/set", `"two"`), foldtest.Delete("dev", "variable/new"))
	p.Rollback(two)
	if got := value(e, "variable/set") + value(e, "variable/new"); got != `"one""one"` {
		t.Errorf("after the newest is undone: %s", got)
	}
	p.Rollback(one)

	if e.Revision != revision+4 {
		t.Errorf("revision %d: a rollback goes forward from %d", e.Revision, revision)
	}
	if e.State.Digest() != digest {
		t.Errorf("the state is not what it was: %s, before %s", snapshot(e), before)
	}
	for _, key := range keys {
		if now, _ := e.State.Get(key); string(now.Value) != string(resources[key].Value) || now.Setter != resources[key].Setter {
			t.Errorf("%s is %s by %s, was %s by %s", key, now.Value, now.Setter.Short(), resources[key].Value, resources[key].Setter.Short())
		}
	}
	if value(e, "variable/gone") != "deleted" || value(e, "variable/new") != "never set" {
		t.Errorf("tombstones: %s, %s", value(e, "variable/gone"), value(e, "variable/new"))
	}
	// What was compiled against the setters of then fits again.
	p.Change(foldtest.Set("dev", "variable/set", `"three"`))
}

func TestOnlyTheNewestSetterIsUndone(t *testing.T) {
	p := foldtest.New(t)
	p.Trust("dev")
	one := p.Change(foldtest.Set("dev", "variable/a", `1`), foldtest.Set("dev", "variable/b", `1`))
	two := p.Change(foldtest.Set("dev", "variable/b", `2`))
	e := p.Environment("dev")
	refuse(t, e, p.Seal(p.DraftRollback(one)...)[0].Payload, events.ReasonNotTheSetter)

	back := p.Rollback(two)
	refuse(t, e, p.Seal(p.DraftRollback(two)...)[0].Payload, events.ReasonAlreadyAccepted)
	p.Rollback(one)
	refuse(t, e, p.Seal(p.DraftRollback(one)...)[0].Payload, events.ReasonAlreadyAccepted)
	refuse(t, e, back[0].Payload, events.ReasonRevisionGap)
}

func TestOnlyTheApprovedInverseIsARollback(t *testing.T) {
	p := foldtest.New(t)
	p.Trust("dev", "prod")
	one := p.Change(foldtest.Set("dev", "variable/a", `1`), foldtest.Set("prod", "variable/a", `2`))
	unknown := p.Draft(foldtest.Set("dev", "variable/b", `1`))[0].Change
	for what, alter := range map[string]func(*events.Release){
		"another value":                 func(r *events.Release) { r.Inverse[0].Op, r.Inverse[0].Value = events.OpSet, json.RawMessage(`0`) },
		"another key":                   func(r *events.Release) { r.Inverse[0].Key = "variable/b" },
		"another setter":                func(r *events.Release) { r.Inverse[0].Setter = one.Digest },
		"one more":                      func(r *events.Release) { r.Inverse = append(r.Inverse, r.Inverse[0]) },
		"another id":                    func(r *events.Release) { r.Rollback.ID = "change-9999" },
		"a change never accepted":       func(r *events.Release) { r.Rollback.ID, r.Rollback.Digest = unknown.ID, unknown.Digest },
		"no digest":                     func(r *events.Release) { r.Rollback.Digest = events.Digest{} },
		"another environment's inverse": func(r *events.Release) { r.Inverse[0].Setter = events.Sum(nil) },
	} {
		t.Run(what, func(t *testing.T) {
			r := p.DraftRollback(one)[0]
			r.Inverse = append([]events.Inverse{}, r.Inverse...)
			alter(&r)
			refuse(t, p.Environment("dev"), p.Seal(r)[0].Payload, events.ReasonInverse)
		})
	}
	r := p.DraftRollback(one)[0]
	r.State = events.Sum(nil)
	refuse(t, p.Environment("dev"), p.Seal(r)[0].Payload, events.ReasonStateMismatch)
}

func TestSameRevisionMeansSameState(t *testing.T) {
	p := foldtest.New(t)
	releases := [][]foldtest.Release{p.Trust("dev")}
	for _, edits := range [][]foldtest.Edit{
		{foldtest.Set("dev", "variable/a", `1`), foldtest.Set("dev", "flag/f", `{"state":"ENABLED"}`)},
		{foldtest.Delete("dev", "variable/a")},
		{foldtest.Set("dev", "variable/a", `1.0`)},
	} {
		releases = append(releases, p.Change(edits...).Releases)
	}
	one, other := at(t, "dev", releases...), at(t, "dev", releases...)
	if snapshot(one) != snapshot(other) || snapshot(one) != snapshot(p.Environment("dev")) {
		t.Error("one history has two folds")
	}
}

func TestMalformedReleasesChangeNothing(t *testing.T) {
	p := foldtest.New(t)
	trust := p.Trust("dev")
	for _, payload := range []string{"", "{}", "null", `{"specversion":"1.0"}`} {
		e := at(t, "dev", trust)
		before := snapshot(e)
		if _, err := e.Accept([]byte(payload)); events.ReasonOf(err) == "" || snapshot(e) != before {
			t.Errorf("%q: %v", payload, err)
		}
	}
}
