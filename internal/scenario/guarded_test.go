package scenario

import (
	"os"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// newGuardedWorld is newWorld on a server that lets in only who has credentials, which the publisher issues.
func newGuardedWorld(t testing.TB, environments int) *world {
	t.Helper()
	w, data := newGuardedBus(t)
	w.addPublisher(settings{Data: data, NATS: w.bus.URL()}) // its durability is proven by the system account
	w.populate(environments)
	return w
}

// newGuardedBus is the server of a newGuardedWorld, and the data directory of a publisher that has its credentials.
func newGuardedBus(t testing.TB) (w *world, data string) {
	t.Helper()
	w = &world{t: t, bus: bustest.StartProcess(t), proposed: map[string]string{}}
	t.Cleanup(w.told)
	w.wire = func(*inst) keys.Bus { return keys.Bus{URL: w.bus.URL()} }
	data = shortDir(t)
	_, err := credentials.Make(data)
	must(t, err)
	authority, err := credentials.Open(data)
	must(t, err)
	lines, err := os.ReadFile(authority.Server())
	must(t, err)
	w.bus.Kill()
	w.bus.Configure(strings.Replace(string(lines), credentials.AccountsOnServer, t.TempDir(), 1))
	w.bus.Restart()
	w.conn = bustest.Connect(t, w.bus.URL(), func(o *bus.Options) { o.Credentials = authority.Publisher() })
	return w, data
}

// Agents need nothing but their enrolments, and everything goes on when bus, publisher and agents are killed. One that is revoked gets
// nothing more, and the others all.
func TestOnABusWithCredentialsEverythingArrivesWhereItShouldAndNowhereElse(t *testing.T) {
	t.Parallel()
	w := newGuardedWorld(t, 2)
	w.release(set("*", "x", "first"))
	w.settle()
	for _, a := range w.agents {
		a.kill()
	}
	w.release(set("*", "x", "second"))
	w.release(set("*", "y", "third"))
	for _, a := range w.agents {
		a.start()
	}
	w.settle()
	w.publishers[0].kill()
	w.bus.Kill()
	w.bus.Restart()
	w.publishers[0].start()
	w.release(set("*", "x", "fourth"))
	w.settle()
	w.holds()

	gone := w.agents[0]
	at := gone.known().Checkpoint.Revision
	w.do("op", ledger.RevokeAgent{Environment: gone.environment, Agent: "one", Reason: "gone"})
	gone.says("cut off", func(s *agent.Status) bool { return !s.Connected })
	w.release(set("*", "x", "fifth"))
	last := w.agents[1]
	last.says("has the release", func(s *agent.Status) bool { return s.Checkpoint.Revision == at+1 })
	gone.kill()
	gone.start()
	gone.says("does not come in", func(s *agent.Status) bool { return !s.Connected && s.Checkpoint.Revision == at })
}
