package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/sys/unix"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// openTerminal is a terminal of so many columns and lines: what a program has, and what a person sees and types.
func openTerminal(t *testing.T, columns, lines uint16) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	number := -1
	control(t, person, func(fd int) (err error) { // Fd would make reads block without a deadline
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns})
	})
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	if err := person.SetReadDeadline(time.Now().Add(bustest.Deadline)); err != nil {
		t.Fatal(err)
	}
	return program, person
}

func control(t *testing.T, f *os.File, fn func(fd int) error) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = fn(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// sees reads what a person sees until all of it was there, and returns it.
func sees(t *testing.T, person io.Reader, want ...string) string {
	t.Helper()
	var seen strings.Builder
	for buffer := make([]byte, 4096); ; {
		missing := false
		for _, w := range want {
			missing = missing || !strings.Contains(seen.String(), w)
		}
		if !missing {
			return seen.String()
		}
		n, err := person.Read(buffer)
		if err != nil {
			t.Fatalf("%v; seen: %q", err, seen.String())
		}
		seen.Write(buffer[:n])
	}
}

func TestTheScreenIsLiveSaysWhenNobodyAnswersAndEndsWithAKey(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	for _, key := range []string{"q", "\x03"} {
		p, url, away := interruptible(t)
		program, person := openTerminal(t, 160, 12)
		before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		code := make(chan int)
		var complaints bytes.Buffer
		go func() {
			code <- run(context.Background(), []string{"top", "--server", url}, program, program, &complaints)
		}()
		sees(t, person, enterScreen, "1 environment: 1 silent", "as of ", "no agent is enrolled")
		if key == "q" {
			p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
			sees(t, person, "2 environments: 2 silent", "prod")
			away.Store(true)
			sees(t, person, "! no publisher answers since ", "nothing is known of now")
		}
		if _, err := person.WriteString(key); err != nil {
			t.Fatal(err)
		}
		sees(t, person, leaveScreen)
		if got := <-code; got != 0 || complaints.Len() > 0 {
			t.Errorf("exit code %d, %s", got, complaints.String())
		}
		after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("the terminal is not as it was: %v", err)
		}
	}
}

// TestTheScreenFitsANarrowTerminalWithoutColourAndFollowsItsSize: the state is there however little room there is, no line is wider than the
// terminal, NO_COLOR is obeyed, and what there was no room for comes when the terminal becomes wider.
func TestTheScreenFitsANarrowTerminalWithoutColourAndFollowsItsSize(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	_, url, _ := interruptible(t)
	program, person := openTerminal(t, 36, 10)
	ctx, end := context.WithCancel(t.Context())
	code := make(chan int)
	var complaints bytes.Buffer
	go func() { code <- run(ctx, []string{"top", "--server", url}, program, program, &complaints) }()
	seen := sees(t, person, enterScreen, "silent", endOfScreen)
	_, drawn, _ := strings.Cut(seen, home)
	for _, line := range strings.Split(drawn, endOfLine) {
		if n := text.StringWidthWithoutEscSequences(line); n > 36 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if strings.Contains(seen, "\x1b[1m") || strings.Contains(seen, "\x1b[3") {
		t.Errorf("it is coloured: %q", seen)
	}
	control(t, person, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 200}) })
	sees(t, person, "LAST CHANGE", "no agent is enrolled")
	end() // as a signal does
	sees(t, person, leaveScreen)
	if got := <-code; got != console.ExitInterrupted || strings.Contains(complaints.String(), "\x1b") {
		t.Errorf("exit code %d, %s", got, complaints.String())
	}
}

func TestTheScreenShowsAsManyAsFitWorstFirst(t *testing.T) {
	view := fleet.View{Totals: map[fleet.Condition]int{fleet.Failing: 1, fleet.InStep: 499}}
	view.Environments = append(view.Environments, fleet.Environment{Name: "broken", Condition: fleet.Failing, Reason: "connector-failed"})
	for i := range 499 {
		view.Environments = append(view.Environments, fleet.Environment{Name: fmt.Sprintf("env-%03d", i), Condition: fleet.InStep})
	}
	s := screen{cli: &cli{stdout: io.Discard}, view: view, wrong: []string{"! something else is wrong"}}
	lines := s.lines(20)
	if len(lines) != 20 || !strings.Contains(lines[3], "broken") || !strings.Contains(lines[3], "failing") {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	if want := "… and 484 more, the worst of them in step; see 'publisher status'"; lines[19] != want {
		t.Errorf("%q, want %q", lines[19], want)
	}
	if all := s.lines(0); len(all) != 503 {
		t.Errorf("all of them are %d lines", len(all))
	}
	for most := range 5 { // however small the window is
		if got := s.lines(most + 1); len(got) < 4 {
			t.Errorf("%d lines: %q", most+1, got)
		}
	}
}
