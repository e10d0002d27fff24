package main

import (
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestAnAgentsLineSaysWhichRevisionWasReadBack(t *testing.T) {
	applied := fleet.AgentDelivery{Agent: "a1", Word: events.WordApplied, Lag: &fleet.Duration{Seconds: 1}, ReadBack: true, Digest: events.Sum(nil)}
	with, failed := applied, applied
	with.With = 3
	failed.With, failed.Failed, failed.Reason, failed.Message = 3, events.WordFailed, events.ReasonFirstContact, "other values"
	for want, a := range map[string]fleet.AgentDelivery{
		"a1: applied ":                 applied,
		"a1: applied with revision 3 ": with,
		"a1: failed alone, first-contact: other values; passed over by revision 3, applied ": failed,
		"a1: failed ": {Agent: "a1", Word: events.WordFailed, Reason: events.ReasonFirstContact, Message: "x"},
	} {
		if got := agentLine(a); !strings.HasPrefix(got, want) || (a.Word == events.WordApplied) != strings.Contains(got, "read back with digest") {
			t.Errorf("%q, want %q…", got, want)
		}
	}
}
