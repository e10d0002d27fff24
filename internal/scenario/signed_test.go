package scenario

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// newSignedWorld is newGuardedWorld with a ledger that begins with signed approvals: the document of trusttest.Document after an edit,
// with this package's people. All that is done is signed by the person who does it.
func newSignedWorld(t testing.TB, environments int, edit func(*events.Trust)) *world {
	t.Helper()
	w, data := newGuardedBus(t)
	w.signs = true
	document := trusttest.Document(t, foldtest.Ledger, foldtest.Signer(t, "publisher").Public())
	document.People = append(document.People, trusttest.Person(t, "anna", events.RoleAuthor), trusttest.Person(t, "ben", events.RoleApprover),
		trusttest.Person(t, "op", events.RoleOperator))
	edit(&document)
	b, err := json.Marshal(trusttest.Signed(t, document, "root 1"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(data, publisher.TrustFile), b, 0o600))
	must(t, os.WriteFile(filepath.Join(data, "publisher.key"), foldtest.Seed(t, "publisher"), 0o600))
	w.addPublisher(settings{Data: data, NATS: w.bus.URL()})
	for i := range environments {
		name := fmt.Sprintf("env-%d", i)
		w.do("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		w.agents = append(w.agents, w.enrol(name, func(s *settings) { s.Listen = bustest.OwnAddress() + ":0" }))
	}
	return w
}

func (w *world) pen(by string) trust.Pen {
	return trust.Pen{Ledger: foldtest.Ledger, Signer: trusttest.Key(w.t, by), Clock: time.Now}
}

// A theft is a release that whoever has the publisher's host makes: its key, its credentials for the bus, and all that was ever signed.
type theft struct {
	what string
	want events.Reason
	make func(k *thief, environment string) events.Release
}

// A thief makes releases that follow on those of the ledger, signed as the publisher signs them.
type thief struct {
	*foldtest.Publisher
	w       *world
	earlier events.Release            // approved, and never released
	changes map[string]*ledger.Change // by the value that they set
}

// draft sets a variable, proposed and approved by nobody who may not be known to the agents.
func (k *thief) draft(environment string) events.Release {
	r := k.Draft(foldtest.Set(environment, "variable/forged", `"yes"`))[0]
	r.Entry = k.w.state.Number + 1
	return r
}

func (k *thief) signed(environment, author string, approvers ...string) events.Release {
	r := k.draft(environment)
	k.Sign(&r, author, approvers...)
	return r
}

// approval signs again what an approval of a release says, after an edit, with somebody's key.
func (k *thief) approval(r events.Release, key string, edit func(*events.Statement)) events.Release {
	s, err := r.Change.Approvals[0].Envelope.Open()
	must(k.w.t, err)
	edit(&s)
	e, err := events.SignStatement(s, trusttest.Key(k.w.t, key))
	must(k.w.t, err)
	r.Change.Approvals[0].Envelope = e
	return r
}

// rollback undoes a change as its part says, after an edit.
func (k *thief) rollback(environment string, c *ledger.Change, edit func([]events.Inverse)) events.Release {
	r := k.draft(environment)
	r.Kind, r.Change, r.Operations = events.KindRollback, nil, nil
	r.Rollback = &events.Rollback{ID: c.ID, Digest: c.Digest, By: "rita", Reason: "undo it"}
	for _, part := range c.Parts {
		if part.Environment == environment {
			r.Inverse = slices.Clone(part.Inverse)
		}
	}
	edit(r.Inverse)
	after := map[string]json.RawMessage{}
	for _, i := range r.Inverse {
		after[i.Key] = i.Value
	}
	r.State = k.Environment(environment).State.With(after)
	return r
}

// document is a release of a trust document.
func (k *thief) document(environment string, document events.Trust) events.Release {
	r := k.DraftTrust(document, environment)[0]
	r.Entry = k.w.state.Number + 1
	return r
}

// thefts are in one environment each.
var thefts = []theft{
	{"no approvals", events.ReasonApprovals, func(k *thief, e string) events.Release { return k.signed(e, "ann") }},
	{"names", events.ReasonApprovals, func(k *thief, e string) events.Release {
		r := k.signed(e, "ann", "bob")
		r.Change.Approvals[0].Envelope = nil
		return r
	}},
	{"an approver of another environment", events.ReasonApprovals, func(k *thief, e string) events.Release { return k.signed(e, "ann", "dan") }},
	{"other operations under a good approval", events.ReasonLeafPath, func(k *thief, e string) events.Release {
		r := k.signed(e, "ann", "bob")
		r.Operations[0].Value = []byte(`"no"`)
		r.State = k.Environment(e).State.With(map[string]json.RawMessage{r.Operations[0].Key: r.Operations[0].Value})
		return r
	}},
	{"the approval of another change", events.ReasonApprovals, func(k *thief, e string) events.Release {
		r := k.signed(e, "ann", "bob")
		r.Change.Approvals = k.earlier.Change.Approvals
		return r
	}},
	{"the author's other key as an approver's", events.ReasonApprovals, func(k *thief, e string) events.Release {
		return k.approval(k.signed(e, "abe", "abe"), "abe's phone", func(*events.Statement) {})
	}},
	{"a delegation that is over", events.ReasonApprovals, func(k *thief, e string) events.Release { return k.signed(e, "ann", "rita") }},
	{"an approval that expired", events.ReasonApprovals, func(k *thief, e string) events.Release {
		return k.approval(k.signed(e, "ann", "bob"), "bob", func(s *events.Statement) { s.At = s.At.Add(-2 * time.Hour); s.Expires = s.At.Add(time.Hour) })
	}},
	{"a statement spelled otherwise", events.ReasonApprovals, func(k *thief, e string) events.Release {
		r := k.signed(e, "ann", "bob")
		said := r.Change.Approvals[0].Envelope
		payload, err := base64.StdEncoding.DecodeString(said.Payload)
		must(k.w.t, err)
		said.Payload = base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(payload), `":"`, `": "`, 1)))
		return r
	}},
	{"an approver removed since", events.ReasonApprovals, func(k *thief, e string) events.Release {
		return k.approval(k.signed(e, "ann", "carol"), "carol", func(s *events.Statement) { s.At = s.At.Add(-time.Minute) }) // while she might
	}},
	{"the trust document before", events.ReasonTrust, func(k *thief, e string) events.Release { return k.document(e, k.w.state.Trusts[0]) }},
	{"a trust document that no root signed", events.ReasonSignature, func(k *thief, e string) events.Release {
		return k.document(e, trusttest.Unsigned(*k.w.state.Trust(), func(d *events.Trust) { d.Rules[0].Approvals = 1 }))
	}},
	{"the inverse of a change that is no longer the setter", events.ReasonNotTheSetter, func(k *thief, e string) events.Release {
		return k.rollback(e, k.changes["first"], func([]events.Inverse) {})
	}},
	{"old values in another combination", events.ReasonInverse, func(k *thief, e string) events.Release {
		return k.rollback(e, k.changes["second"], func(i []events.Inverse) { i[0].Value = []byte(`"third"`) })
	}},
	{"what was released already", events.ReasonAlreadyAccepted, func(k *thief, e string) events.Release {
		payload, err := k.w.state.Payload(e, 2)
		must(k.w.t, err)
		r, _, err := events.DecodeRelease(payload)
		must(k.w.t, err)
		next := k.draft(e)
		r.Revision, r.Previous, r.Entry, r.State = next.Revision, next.Previous, next.Entry, next.State
		return r
	}},
}

// TestWhoeverStealsThePublisherReleasesNothing: the thief has the publisher's key and its credentials for the bus, everything that was
// ever signed, and the keys of people who may not. The agents are processes and refuse it all with signed acks; the publisher that was
// robbed says that somebody signs with its key, and takes no command.
func TestWhoeverStealsThePublisherReleasesNothing(t *testing.T) {
	t.Parallel()
	w := newSignedWorld(t, len(thefts), func(d *events.Trust) {
		for i := range d.People {
			switch p := &d.People[i]; p.Name {
			case "abe":
				p.Grants = append(p.Grants, events.Grant{Role: events.RoleApprover, Environments: []string{"*"}})
				p.Keys = append(p.Keys, trusttest.Key(t, "abe's phone").Public())
			case "dan":
				p.Grants[0].Environments = []string{"elsewhere"}
			}
		}
		d.Delegations = []events.Delegation{{From: "bob", To: "rita", Role: events.RoleApprover, Until: time.Now().Add(-time.Hour)}}
	})
	w.release(set("*", "x", "first"))
	w.settle()
	late := w.agents[0]
	late.kill()
	a, err := w.propose(set("*", "x", "second"))
	must(t, err)
	if _, err := w.try(w.command("dan", a)); err == nil {
		t.Error("dan approves where he may not")
	}
	w.do("carol", a)
	next := trusttest.Next(t, *w.trust(), trusttest.Remove("carol"))
	signatures := next.Signatures
	next.Signatures = nil
	c := w.do("ada", ledger.ProposeTrust{Document: next, Reason: "carol has left"}).Change
	w.do("ada", ledger.Approve{Change: c, Digest: w.digest(c), Roots: signatures})
	late.settings.Clock = 31 * 24 * time.Hour // all that was approved has expired
	late.start()
	w.settle() // what carol approved while she might is applied, before and behind the document, also a month later

	w.read()
	k := &thief{Publisher: foldtest.New(t), w: w, changes: map[string]*ledger.Change{}}
	k.Wait(time.Until(foldtest.Epoch) * -1)
	for _, c := range w.state.ChangeList() {
		for _, value := range []string{"first", "second"} {
			if c.Trust == nil && strings.Contains(string(c.Parts[0].Operations[0].Value), value) {
				k.changes[value] = c
			}
		}
	}
	for _, a := range w.agents {
		head, err := w.state.Folded(a.environment, w.state.Environments[a.environment].Head())
		must(t, err)
		*k.Environment(a.environment) = *head
	}
	k.earlier = k.signed(w.agents[0].environment, "ann", "bob")
	sealed := map[string]foldtest.Release{}
	var out []bus.Outgoing
	for i, theft := range thefts {
		environment := w.agents[i].environment
		r := k.Seal(theft.make(k, environment))[0]
		ctx, cancel := w.context()
		head, err := w.conn.Head(ctx, environment)
		cancel()
		must(t, err)
		sealed[environment] = r
		out = append(out, bus.Outgoing{Environment: environment, Payload: r.Payload, Signature: r.Header, ExpectedLast: head.Sequence})
	}
	ctx, cancel := w.context()
	defer cancel()
	for i, sent := range w.conn.Send(ctx, out) {
		if sent.Err != nil {
			t.Fatalf("%s: the bus does not take it: %v", thefts[i].what, sent.Err)
		}
	}
	w.refusals(sealed)
	for i, a := range w.agents {
		what, want := thefts[i].what, thefts[i].want
		a.says(what+" refused", func(s *agent.Status) bool { return s.Failure != nil && s.Failure.Word == events.WordRefused })
		s := a.known()
		if s.Failure.Reason != want || s.Checkpoint.Revision != 4 || s.Condition.Word != agent.Failing {
			t.Errorf("%s: %+v, %+v at %d; want %s", what, s.Failure, s.Condition, s.Checkpoint.Revision, want)
		}
		if err := a.instanceAt(4); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, shown := get(t, "http://"+s.HTTP+"/metrics"); !strings.Contains(shown, `result="refused"} 1`) {
			t.Errorf("%s: it is not counted:\n%s", what, shown)
		}
	}
	bustest.Eventually(t, "the publisher says it of every environment, and of itself", func() bool {
		v := w.fleet()
		return v != nil && !v.Ledger.Writable && v.Ledger.Reason == events.ReasonLedgerTruncated && !slices.ContainsFunc(v.Environments, func(e fleet.Environment) bool {
			return e.Condition != fleet.Failing || e.Reason == ""
		})
	})
	w.read()
	for name, e := range w.state.Environments {
		if e.Head() != 4 {
			t.Errorf("the ledger has released revision %d of %s", e.Head(), name)
		}
	}

	for _, a := range w.agents { // what is forged is taken out of the stream, which the publisher makes anew; what refused it goes on
		must(t, w.conn.PurgeReleases(ctx, a.environment))
	}
	w.release(set("*", "x", "third"))
	w.holds()
	for i, a := range w.agents {
		if !slices.ContainsFunc(w.state.Environments[a.environment].Agents["one"].Said(), func(d *ledger.Statement) bool {
			return d.Word == events.WordRefused && d.Last == 5 && d.Reason == thefts[i].want
		}) {
			t.Errorf("%s: the refusal is not in the ledger", thefts[i].what)
		}
	}
}

// trust is the newest trust document.
func (w *world) trust() *events.Trust {
	w.read()
	return w.state.Trust()
}

// refusals waits for the signed acks that refuse releases, by environment.
func (w *world) refusals(of map[string]foldtest.Release) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	enough := errors.New("that is all")
	refused := map[string]bool{}
	err := w.conn.FollowAcks(ctx, 1, func(r bus.Report) error {
		ack, err := events.DecodeAck(r.Payload, r.Signature, r.Environment, r.Agent, w.state.Environments[r.Environment].Agents[r.Agent].Key)
		if err != nil {
			return fmt.Errorf("an ack of %s: %w", r.Environment, err)
		}
		if release := of[r.Environment]; ack.Word == events.WordRefused && ack.First == release.Revision && ack.Chain == release.Chain {
			refused[r.Environment] = true
		}
		if len(refused) == len(of) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		w.t.Fatalf("of %d forged releases %d are refused: %v", len(of), len(refused), err)
	}
}
