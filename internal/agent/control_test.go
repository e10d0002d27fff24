package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAFrozenAgentIsSaidNotToAnswer: the kernel takes connections for a process that is stopped, and nobody ever answers them.
func TestAFrozenAgentIsSaidNotToAnswer(t *testing.T) {
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, socketFile))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(dir)
	c.patience = 50 * time.Millisecond
	says := fmt.Sprintf("the agent, process %d, does not answer: it is stopped or stuck", os.Getpid())
	for verb, order := range map[string]func() error{
		"status":     func() error { _, err := c.Status(t.Context()); return err },
		"hold":       func() error { _, err := c.Hold(t.Context(), time.Now().Add(time.Hour), "why"); return err },
		"resume":     func() error { _, err := c.Resume(t.Context()); return err },
		"retry":      func() error { _, err := c.Retry(t.Context()); return err },
		"plan":       func() error { _, err := c.Plan(t.Context()); return err },
		"checkpoint": func() error { _, err := c.Checkpoint(t.Context()); return err },
	} {
		if err := order(); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}
