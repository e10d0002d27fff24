package publisher_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// guarded is a data directory with credentials of the bus.
func guarded(t *testing.T) string {
	t.Helper()
	data := t.TempDir()
	_, err := credentials.Make(data)
	must(t, err)
	return data
}

// barred says whether the bus keeps out an agent with what was issued for it.
func barred(t *testing.T, p *publisher.Publisher, environment, name, jwt string) bool {
	t.Helper()
	conn, err := bus.Connect(bustest.Context(t), bus.Options{Name: environment + "." + name, URL: p.BusURL(), JWT: jwt, Seed: string(foldtest.Seed(t, environment+"/"+name))})
	if err == nil {
		conn.Close()
	}
	return err != nil && strings.Contains(err.Error(), "Authorization Violation")
}

func TestARevokedAgentIsCutOffAndKeptOutByWhatTheLedgerSays(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		revokes(t, guarded(t), func(*publisher.Options) {}, func() {})
	})
	t.Run("existing", func(t *testing.T) {
		t.Parallel()
		data := guarded(t)
		process := bustest.StartProcess(t)
		process.Kill()
		process.Configure(operatorsOf(t, data))
		process.Restart()
		revokes(t, data, func(o *publisher.Options) { o.NATS = process.URL() }, func() {
			process.Kill()
			process.Restart()
		})
	})
}

// operatorsOf is what makes a server one of the operator in a data directory.
func operatorsOf(t *testing.T, data string) string {
	t.Helper()
	authority, err := credentials.Open(data)
	must(t, err)
	lines, err := os.ReadFile(authority.Server())
	must(t, err)
	return strings.Replace(string(lines), credentials.AccountsOnServer, t.TempDir(), 1)
}

// revokes has agents revoked and tries them, also when publisher and server were restarted.
func revokes(t *testing.T, data string, on func(*publisher.Options), restart func()) {
	p := start(t, data, on)
	eventuallyWritable(t, p)
	addEnvironments(t, p, "dev", "prod")
	one, two := enrol(t, p, "dev", "one"), enrol(t, p, "dev", "two")
	release(t, p, "variable/a", true, "dev")
	one.reaches(2)
	two.reaches(2)
	jwt, err := p.Credentials("dev", "one", one.signer.Public())
	must(t, err)
	if barred(t, p, "dev", "one", jwt) {
		t.Fatal("it is kept out before it is revoked")
	}
	do(t, p, "op", ledger.RevokeAgent{Environment: "dev", Agent: "one", Reason: "gone"})
	bustest.Eventually(t, "the revoked agent is cut off", func() bool { return !one.connected.Load() && barred(t, p, "dev", "one", jwt) })
	release(t, p, "variable/a", false, "dev")
	two.reaches(3)

	retired := foldtest.Signer(t, "prod/three")
	do(t, p, "op", ledger.EnrolAgent{Environment: "prod", Agent: "three", Key: retired.Public()})
	third, err := p.Credentials("prod", "three", retired.Public())
	must(t, err)
	if barred(t, p, "prod", "three", third) {
		t.Error("it is kept out before its environment is retired")
	}
	do(t, p, "op", ledger.RetireEnvironment{Name: "prod", Reason: "gone"})
	bustest.Eventually(t, "the agent of a retired environment is kept out", func() bool { return barred(t, p, "prod", "three", third) })

	one.stop()
	two.stop()
	stop(t, p)
	restart()
	p = start(t, data, on)
	for name, jwt := range map[string]string{"dev/one": jwt, "prod/three": third} {
		environment, agent, _ := strings.Cut(name, "/")
		bustest.Eventually(t, name+" is kept out after a restart", func() bool { return barred(t, p, environment, agent, jwt) })
	}
	startAgent(t, p, "dev", "two").reaches(3)
}

func TestABusWithoutAccountsKeepsItsStreamsWhenItGetsSome(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, data)
	addEnvironments(t, p, "dev")
	release(t, p, "variable/a", true, "dev")
	before := verify(t, p)
	if p.IssuesCredentials() {
		t.Error("it issues credentials and has none")
	}
	stop(t, p)
	_, err := credentials.Make(data)
	must(t, err)
	p = start(t, data)
	eventuallyWritable(t, p)
	if after := verify(t, p); !after.OK || after.Tip != before.Tip {
		t.Errorf("%+v, before %+v", after, before)
	}
	if _, err := bus.Connect(bustest.Context(t), bus.Options{Name: "anybody", URL: p.BusURL()}); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("anybody comes in: %v", err)
	}
	enrol(t, p, "dev", "one").reaches(2)
}

func TestAPublisherRefusesCredentialsThatOthersCanRead(t *testing.T) {
	t.Parallel()
	data := guarded(t)
	files, err := filepath.Glob(filepath.Join(data, credentials.Directory, "*.key"))
	must(t, err)
	for _, file := range files {
		if strings.Contains(file, "offline") {
			must(t, os.Remove(file))
			continue
		}
		must(t, os.Chmod(file, 0o644))
		if _, err := publisher.New(t.Context(), options(data)); !errors.Is(err, keys.ErrExposed) {
			t.Errorf("%s: %v", file, err)
		}
		must(t, os.Chmod(file, 0o600))
	}
	eventuallyWritable(t, start(t, data))
}

// A publisher that has credentials for its own bus, and is told of a NATS that has no accounts, leaves it to that one who comes in.
func TestOnABusOfAnotherOperatorNoCredentialsAreIssued(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	p := start(t, guarded(t), on(process))
	eventuallyWritable(t, p)
	if p.IssuesCredentials() {
		t.Error("it issues credentials that the bus does not know")
	}
	addEnvironments(t, p, "dev")
	enrol(t, p, "dev", "one").reaches(1)
}
