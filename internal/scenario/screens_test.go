package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// built are the programs, built once by the first scenario that runs one.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// program is the path of a built command of ours.
func program(t testing.TB, name string) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "lockstep"); built.err != nil {
			return
		}
		if out, err := exec.Command("go", "build", "-o", built.dir, "github.com/lockstep-dev/lockstep/cmd/publisher", "github.com/lockstep-dev/lockstep/cmd/agent").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	})
	must(t, built.err)
	return filepath.Join(built.dir, name)
}

// run runs a program of ours as a person would and returns all that it wrote, and how it ended.
func run(t testing.TB, name string, args ...string) (said string, code int) {
	t.Helper()
	path := program(t, name) // which may take longer to build than to run
	ctx, cancel := context.WithTimeout(t.Context(), bustest.Deadline)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// get is what a URL answers.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bustest.Deadline)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(b)
}

// readOnly waits until the publisher is read-only for the reason and then looks at every screen: each names the reason, none calls the
// publisher ready, no command is carried out, and nothing is appended.
func (p *pub) readOnly(reason events.Reason) {
	t := p.w.t
	t.Helper()
	ctx, cancel := p.w.context()
	defer cancel()
	bustest.Eventually(t, "the publisher is read-only, "+string(reason), func() bool {
		v, err := p.calls().Fleet(ctx)
		return err == nil && !v.Ledger.Writable && v.Ledger.Reason == reason
	})
	before := p.w.extent()
	_, err := p.calls().Do(ctx, p.w.command("op", ledger.AddEnvironment{Name: "new", Approvals: 1}), false)
	if api.KindOf(err) != api.KindUnavailable || !strings.Contains(err.Error(), string(reason)) {
		t.Errorf("a command is answered: %v", err)
	}
	if v, err := p.calls().Verify(ctx); err == nil && v.OK && reason != events.ReasonLedgerTruncated { // a cut ledger may verify as far as it goes
		t.Errorf("it verifies: %+v", v)
	}
	server := p.calls().Server()
	if status, body := get(t, server+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, string(reason)) {
		t.Errorf("readyz: %d %s", status, body)
	}
	if _, body := get(t, server+"/metrics"); !strings.Contains(body, "lockstep_ledger_writable 0") ||
		!strings.Contains(body, fmt.Sprintf("lockstep_ledger_read_only{reason=%q} 1", reason)) {
		t.Errorf("the metrics do not say it: %s", body)
	}
	if said, _ := run(t, "publisher", "status", "--server", server); !strings.Contains(said, string(reason)) {
		t.Errorf("status: %s", said)
	}
	if said, code := run(t, "publisher", "doctor", "--server", server); code != 1 || !strings.Contains(said, string(reason)) || !strings.Contains(said, "publisher ledger repair --data "+p.settings.Data) {
		t.Errorf("doctor (%d): %s", code, said)
	}
	if said, code := run(t, "publisher", "env", "add", "another", "--server", server); code != api.ExitCode(&api.UnavailableError{}) || !strings.Contains(said, string(reason)) {
		t.Errorf("env add (%d): %s", code, said)
	}
	if after := p.w.extent(); after != before {
		t.Errorf("the ledger went on from entry %d to %d", before, after)
	}
}

// extent is the number of the last entry on the bus; 0 where there is no ledger any more.
func (w *world) extent() uint64 {
	w.t.Helper()
	var end bus.LedgerInfo
	bustest.Eventually(w.t, "the bus says where the ledger ends", func() (known bool) {
		ctx, cancel := w.context()
		defer cancel()
		var err error
		end, err = w.conn.LedgerEnd(ctx)
		if known = err == nil || errors.Is(err, bus.ErrLedgerChanged); !known && !errors.Is(err, bus.ErrUnavailable) {
			w.t.Fatal(err)
		}
		return known
	})
	return end.Last
}

// repair stops every publisher and repairs with the real command; the first publisher starts again.
func (w *world) repair(flags ...string) {
	w.t.Helper()
	for _, p := range w.publishers {
		p.kill()
	}
	args := append([]string{"ledger", "repair", "--yes", "--data", w.publishers[0].settings.Data, "--nats", w.bus.URL()}, flags...)
	if said, code := run(w.t, "publisher", args...); code != 0 || !strings.Contains(said, "reads back as it was") {
		w.t.Fatalf("repair (%d): %s", code, said)
	}
	for _, p := range w.publishers {
		p.start()
	}
}

// serving watches every agent until the returned function is called: its process answers, and all along its checkpoint stays and its
// files are those of the checkpoint.
func (w *world) serving() (ended func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	var watching sync.WaitGroup
	for _, a := range w.agents {
		before := a.known().Checkpoint
		want, err := w.state.Folded(a.environment, before.Revision) // the test may read on in the ledger meanwhile
		must(w.t, err)
		watching.Go(func() {
			for looks := 0; ctx.Err() == nil || looks == 0; {
				if s := a.status(); s != nil { // on a busy machine it may take its time
					looks++
					if s.Checkpoint != before || s.Condition.Word == agent.Torn || s.Condition.Word == agent.Differing && !content(s) {
						w.t.Errorf("the agent of %s was at %+v and is at %+v, %+v", a.environment, before, s.Checkpoint, s.Condition)
						return
					}
				}
				if err := a.instanceIs(want); err != nil {
					w.t.Errorf("meanwhile %v", err)
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond): // two cores are shared by all scenarios
				}
			}
		})
	}
	return func() {
		cancel()
		watching.Wait()
	}
}
