package ledger_test

import (
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// TestWhatIsSaidOfAlarmsIsSignedByWhoLooksAfterTheEnvironments and is read again as it was decided.
func TestWhatIsSaidOfAlarmsIsSignedByWhoLooksAfterTheEnvironments(t *testing.T) {
	b := signedBook(t, nil, "dev", "prod-eu", "prod-us")
	b.must("otto", ledger.UpdateEnvironment{Name: "prod-eu", Steward: "stella"})
	acknowledge := func(environment string) ledger.Body {
		return ledger.AcknowledgeAlarm{Alarm: "af13aa6d3941", Environment: environment, Reason: "restarting it"}
	}
	silence := func(environment string, long time.Duration) ledger.Body {
		return ledger.SilenceAlarms{Environment: environment, Rule: "silent", Until: b.now.Add(long), Reason: "it moves"}
	}
	b.refused("ann", acknowledge("prod-eu"), ledger.KindDenied, "operator or steward")
	b.refused("ann", acknowledge(""), ledger.KindDenied, "operator")
	b.refused("otto", acknowledge("nowhere"), ledger.KindNotFound, "no environment")
	b.refused("otto", ledger.AcknowledgeAlarm{Alarm: "af13aa6d3941"}, ledger.KindInvalid, "the reason is missing")
	b.refused("otto", ledger.AcknowledgeAlarm{Reason: "why"}, ledger.KindInvalid, "which alarm")
	b.must("otto", acknowledge("prod-eu"))
	b.must("bob", acknowledge("")) // what waits for approval is about no environment
	if got := b.state.Acknowledgements(); len(got) != 2 || got[0].By != "otto" || got[0].Environment != "prod-eu" || got[1].By != "bob" {
		t.Errorf("%+v", got)
	}
	b.refused("ann", silence("prod-*", time.Hour), ledger.KindDenied, "operator or steward")
	b.refused("bob", silence("*", time.Hour), ledger.KindDenied, "operator")
	for _, long := range []time.Duration{0, -time.Hour, 31 * 24 * time.Hour} {
		b.refused("otto", silence("prod-*", long), ledger.KindInvalid, "within 30 days")
	}
	b.refused("otto", silence("", time.Hour), ledger.KindInvalid, "of which environments")
	first := b.must("otto", silence("prod-*", time.Hour)).Entry
	second := b.must("otto", silence("*", 3*time.Hour)).Entry
	b.refused("ann", ledger.EndSilence{Silence: first}, ledger.KindDenied, "operator or steward")
	b.refused("otto", ledger.EndSilence{Silence: first + 100}, ledger.KindNotFound, "no silence")
	b.now = b.now.Add(2 * time.Hour)
	if got := b.state.SilencesAt(b.now); len(got) != 1 || got[0].Entry != second || got[0].ID() == "" {
		t.Errorf("%+v", got)
	}
	b.refused("otto", ledger.EndSilence{Silence: first}, ledger.KindNotFound, "it is over")
	b.must("otto", ledger.EndSilence{Silence: second})
	if got := b.state.SilencesAt(b.now); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	b.verify()
	b.readsTheSame()
}
