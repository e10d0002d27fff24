package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

const socketFile = "agent.sock"

// maxSocketPath is what the kernel takes.
const maxSocketPath = 107

// ErrNotRunning says that no agent answers in the state directory.
var ErrNotRunning = errors.New("the agent does not run")

// ErrNoAnswer says that an agent has its socket and says nothing there.
var ErrNoAnswer = errors.New("does not answer: it is stopped or stuck")

// patience is how long an agent may take to say how it is, which waits for nothing.
const patience = 5 * time.Second

// listenControl listens on the socket in the state directory: whoever may enter the directory may give orders. The store's lock has
// shown that no other agent uses it.
func listenControl(dir string) (net.Listener, error) {
	path := filepath.Join(dir, socketFile)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket: %s is longer than %d bytes: choose a shorter state directory", path, maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, nil
}

type holdRequest struct {
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// maxHold bounds an order to hold, in bytes.
const maxHold = 64 << 10

// readHold reads an order to hold: until when, which is to come, and why.
func readHold(body io.Reader, now time.Time) (h holdRequest, err error) {
	d := json.NewDecoder(io.LimitReader(body, maxHold))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return h, fmt.Errorf("hold: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return h, errors.New("hold: something follows the order")
	}
	if !h.Until.After(now) || h.Reason == "" {
		return h, errors.New("hold: say until when, which must be to come, and why")
	}
	return h, nil
}

func serveControl(ctx context.Context, a *Agent) error {
	mux := http.NewServeMux()
	answer := func(pattern string, fn func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := fn(r)
			if err != nil {
				writeJSON(w, http.StatusConflict, map[string]string{"error": err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, out)
		})
	}
	answer("GET /status", func(*http.Request) (any, error) { return a.Status(), nil })
	answer("GET /checkpoint", func(*http.Request) (any, error) { return ViewCheckpoint(a.store) })
	answer("GET /plan", func(r *http.Request) (out any, err error) {
		err = a.ask(r.Context(), func(ctx context.Context) error { out, err = a.chain.plan(ctx); return err })
		return out, err
	})
	answer("POST /hold", func(r *http.Request) (any, error) {
		h, err := readHold(r.Body, a.opts.Clock())
		if err == nil {
			err = a.Hold(r.Context(), h.Until, h.Reason)
		}
		return a.Status(), err
	})
	answer("POST /resume", func(r *http.Request) (any, error) {
		err := a.Resume(r.Context())
		return a.Status(), err
	})
	answer("POST /retry", func(r *http.Request) (any, error) {
		err := a.Retry(r.Context())
		return a.Status(), err
	})
	return telemetry.Serve(ctx, a.control, mux)
}

// A Client gives a running agent orders through the socket in its state directory. Its errors wrap ErrNotRunning where none runs, and
// ErrNoAnswer where one does not even say how it is, which it is asked before every order: orders take as long as the instance does.
type Client struct {
	dir      string
	http     *http.Client
	patience time.Duration
}

// NewClient is a client for the agent of a state directory.
func NewClient(dir string) *Client {
	path := filepath.Join(dir, socketFile)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{dir, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, patience}
}

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	short, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	s, err := ask[Status](short, c, http.MethodGet, "/status", nil)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("the agent%s, %w", c.process(), ErrNoAnswer)
	}
	return s, err
}

// process names the process that listens on the socket, which the kernel says: "" where it does not.
func (c *Client) process() string {
	conn, err := net.DialTimeout("unix", filepath.Join(c.dir, socketFile), c.patience)
	if err != nil {
		return ""
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ""
	}
	var of *syscall.Ucred
	if errors.Join(raw.Control(func(fd uintptr) { of, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) }), err) != nil {
		return ""
	}
	return fmt.Sprintf(", process %d", of.Pid)
}

// Checkpoint asks for what is durable.
func (c *Client) Checkpoint(ctx context.Context) (*CheckpointView, error) {
	return order[CheckpointView](ctx, c, http.MethodGet, "/checkpoint", nil)
}

// Plan asks what the next apply would do.
func (c *Client) Plan(ctx context.Context) (*Plan, error) {
	return order[Plan](ctx, c, http.MethodGet, "/plan", nil)
}

// Hold orders that nothing is applied until a time. Like Resume and Retry it answers how the agent is then.
func (c *Client) Hold(ctx context.Context, until time.Time, reason string) (*Status, error) {
	return order[Status](ctx, c, http.MethodPost, "/hold", holdRequest{until, reason})
}

// Resume ends a hold.
func (c *Client) Resume(ctx context.Context) (*Status, error) {
	return order[Status](ctx, c, http.MethodPost, "/resume", nil)
}

// Retry orders another try of what failed.
func (c *Client) Retry(ctx context.Context) (*Status, error) {
	return order[Status](ctx, c, http.MethodPost, "/retry", nil)
}

// order asks what may take its time, of an agent that answers.
func order[T any](ctx context.Context, c *Client, method, path string, body any) (*T, error) {
	if _, err := c.Status(ctx); err != nil {
		return nil, err
	}
	return ask[T](ctx, c, method, path, body)
}

func ask[T any](ctx context.Context, c *Client, method, path string, body any) (*T, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, content)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w in %s: start it with 'agent run', or name with --config or --state where another one keeps its state", ErrNotRunning, c.dir)
		}
		return nil, fmt.Errorf("%w in %s: %w", ErrNotRunning, c.dir, errors.Unwrap(err)) // without the request that nobody sees
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var failed struct{ Error string }
		if err := json.NewDecoder(answer.Body).Decode(&failed); err != nil || failed.Error == "" {
			return nil, fmt.Errorf("the agent answered %s", answer.Status)
		}
		return nil, errors.New(failed.Error)
	}
	out := new(T)
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("the agent's answer: %w", err)
	}
	return out, nil
}
