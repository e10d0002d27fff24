package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func TestACommandBelongsToTheTraceOfItsJobOrBeginsOne(t *testing.T) {
	const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	p, url, _ := interruptible(t)
	for i, variable := range []string{given, "", "nonsense"} {
		t.Setenv("TRACEPARENT", variable)
		id := "c" + string(rune('1'+i))
		for _, line := range []string{"propose --as anna -m why --env dev --set variable/x=" + id, "approve " + id + " --as ben"} {
			if code := run(context.Background(), append(strings.Fields(line), "--server", url), strings.NewReader(""), io.Discard, io.Discard); code != 0 {
				t.Fatalf("%s: exit code %d", line, code)
			}
		}
		var got string
		p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
			releases := s.Environments["dev"].Releases
			got = releases[len(releases)-1].TraceParent
		})
		if telemetry.TraceID(got) == "" || (got == given) != (variable == given) {
			t.Errorf("TRACEPARENT=%q: released in %q", variable, got)
		}
	}
}
