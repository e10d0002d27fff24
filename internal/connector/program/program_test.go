package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"golang.org/x/sys/unix"
)

func shell(script string) Program {
	return Program{Command: []string{"sh", "-c", script}, Timeout: 10 * time.Second, Reason: connector.ReasonExecFailed}
}

func TestExitCodeSaysWhatAFailureIs(t *testing.T) {
	for _, c := range []struct {
		script    string
		reason    string
		permanent bool
		text      string
	}{
		{"echo first >&2; echo second >&2; echo >&2; exit 1", "exec-failed", false, "exit status 1: second"},
		{"printf 'no newline' >&2; exit 2", "exec-failed", true, "exit status 2: no newline"},
		{"exit 77", "exec-failed", false, "exit status 77"},
		{"kill -9 $$", "exec-failed", false, "signal: killed"},
		{"printf '\\033[31mred\\377\\n' >&2; exit 1", "exec-failed", false, ": [31mred"},
	} {
		_, err := shell(c.script).Run(context.Background(), nil)
		e := connector.AsError(err)
		if e == nil || string(e.Reason) != c.reason || e.Permanent != c.permanent || !strings.HasSuffix(e.Error(), c.text) {
			t.Errorf("%s: %v", c.script, err)
		}
	}
}

func TestProgramThatCannotBeStartedIsPermanent(t *testing.T) {
	p := Program{Command: []string{"./no-such-program"}, Dir: t.TempDir(), Timeout: time.Second, Reason: connector.ReasonReloadFailed}
	_, err := p.Run(context.Background(), nil)
	if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonReloadFailed {
		t.Errorf("got %v", err)
	}
}

func TestStdinArrivesAndStdoutReturns(t *testing.T) {
	out, err := shell("cat; echo noise >&2").Run(context.Background(), []byte("what went in"))
	if err != nil || string(out) != "what went in" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestProgramThatDoesNotReadItsInputIsFine(t *testing.T) {
	out, err := shell("echo done").Run(context.Background(), make([]byte, 1<<20))
	if err != nil || string(out) != "done\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTimeoutKillsTheWholeProcessGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	p := shell(`sleep 600 & echo $! > "` + pidFile + `"; wait`)
	child := 0
	for p.Timeout = 300 * time.Millisecond; child == 0; p.Timeout *= 2 { // on a busy machine the shell comes to nothing in so short a time
		_, err := p.Run(context.Background(), nil)
		if e := connector.AsError(err); e == nil || e.Permanent || e.Reason != connector.ReasonTimeout {
			t.Fatalf("got %v", err)
		}
		if text, err := os.ReadFile(pidFile); err == nil {
			child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if p.Timeout > time.Minute {
			t.Fatal("the shell never says which child it has")
		}
	}
	assertGone(t, child)
}

func TestChildLeftBehindIsKilled(t *testing.T) {
	out, err := shell(`sleep 600 >/dev/null 2>&1 & echo $!`).Run(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	assertGone(t, child)
}

// assertGone waits until a killed process has ended: it is gone, or a zombie that its new parent has not collected yet.
func assertGone(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
			return
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("process %d still runs", pid)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	_, err := shell("head -c 20000000 /dev/zero").Run(context.Background(), nil)
	if e := connector.AsError(err); e == nil || !strings.Contains(e.Error(), "more than") {
		t.Errorf("got %v", err)
	}
	_, err = shell("head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 1").Run(context.Background(), nil)
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestOnlyAllowedEnvironmentIsPassed(t *testing.T) {
	t.Setenv("LOCKSTEP_TEST_TOKEN", "t")
	t.Setenv("LOCKSTEP_TEST_OTHER", "o")
	p := shell("env")
	p.Env = []string{"LOCKSTEP_TEST_TOKEN"}
	out, err := p.Run(context.Background(), nil)
	if err != nil || !strings.Contains(string(out), "LOCKSTEP_TEST_TOKEN=t") || strings.Contains(string(out), "OTHER") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	good := shell("true")
	for field, p := range map[string]Program{
		"command:": {Timeout: 1}, "timeout:": {Command: []string{"x"}}, "env:": {Command: good.Command, Timeout: 1, Env: []string{"A=b"}},
	} {
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s %v", field, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
