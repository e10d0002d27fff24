package ledger_test

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// TestWhateverPeopleSignTheLedgerHoldsOnlyWhatAgentsTake lets people propose, approve, veto, break the glass, undo, come and go, and time
// pass: each command is done or refused with a kind, what is decided is read again as the same, and agents take every release.
func TestWhateverPeopleSignTheLedgerHoldsOnlyWhatAgentsTake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := signedBook(t, func(d *events.Trust) {
			d.Rules = []events.ApprovalRule{
				{Environments: []string{"dev"}, Resources: []string{"variable/*"}},
				{Environments: []string{"prod"}, Approvals: 2},
				{Environments: []string{"*"}, Approvals: 1},
			}
			d.Delegations = []events.Delegation{{From: "bob", To: "rita", Role: events.RoleApprover, Until: epoch.Add(12 * 24 * time.Hour)}}
			d.People[2].Grants[0].Environments = []string{"prod"} // bob
		}, "prod", "test")
		b.must("otto", ledger.AddEnvironment{Name: "dev"})
		people := []string{"ann", "abe", "bob", "carol", "dan", "rita", "otto", "ada", "gus"}
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			b.now = b.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 3, 8, 31}).Draw(t, "days")) * 24 * time.Hour)
			who := rapid.SampledFrom(people).Draw(t, "who")
			var id string
			if all := b.state.ChangeList(); len(all) > 0 {
				id = rapid.SampledFrom(all).Draw(t, "change").ID
			}
			var body ledger.Body
			switch verb := rapid.SampledFrom([]string{"propose", "propose", "approve", "approve", "approve", "reject", "withdraw", "break-glass", "review", "rollback", "rebase", "revise", "remove", "retire"}).Draw(t, "verb"); {
			case verb == "propose" || id == "":
				body = anyEdit(t)
			case verb == "approve":
				a := b.approval(id)
				if c := b.state.Changes[id]; c.Trust != nil {
					a.Roots = []events.RootSignature{trusttest.Root(t, *c.Trust, rapid.SampledFrom([]string{"root 1", "root 2", "bob"}).Draw(t, "root"))}
				}
				body = a
			case verb == "reject":
				body = ledger.Reject{Change: id, Reason: "no"}
			case verb == "withdraw":
				body = ledger.Withdraw{Change: id}
			case verb == "break-glass":
				body = ledger.BreakGlass{Change: id, Digest: b.state.Changes[id].Digest, Reason: "down"}
			case verb == "review":
				body = ledger.Review{Change: id}
			case verb == "rollback":
				body = ledger.Rollback{Change: id, Reason: "no"}
			case verb == "rebase":
				body = ledger.Rebase{Change: id}
			case verb == "revise":
				body = ledger.Revise{Change: id, Propose: anyEdit(t)}
			case verb == "retire":
				body = ledger.RetireEnvironment{Name: "test", Reason: "sold"}
			case verb == "remove":
				gone := rapid.SampledFrom([]string{"ann", "bob", "carol", "dan", "gus"}).Draw(t, "gone")
				body = ledger.ProposeTrust{Document: trusttest.Unsigned(*b.state.Trust(), trusttest.Remove(gone)), Reason: "left"}
			}
			if _, err := b.do(who, body); err != nil && ledger.KindOf(err) == "" {
				t.Fatalf("%T by %s: %v", body, who, err)
			}
		}
		b.readsTheSame()
		b.verify()
	})
}

func anyEdit(t *rapid.T) ledger.Propose {
	where := rapid.SampledFrom([]string{"dev", "prod", "test", "dev prod", "dev prod test"}).Draw(t, "where")
	what := rapid.SampledFrom([]string{"variable/x", "variable/y"}).Draw(t, "what")
	return set(where, what, strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "value")))
}
