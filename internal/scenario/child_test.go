package scenario

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector/build"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/publisher"
)

// childVariable holds a child's settings: this test binary is then that publisher or agent and nothing else.
const childVariable = "LOCKSTEP_TEST_SCENARIO"

// Settings of a child: a publisher where Data is set, an agent otherwise.
type settings struct {
	Data, NATS, MonitorURL string
	Enrolment, State, Root string
	Connectors             []build.Config // empty: a file connector with the instanceFiles below Root
	Clock                  time.Duration  // how far its clock is off when it starts
	Listen                 string         // HTTP address; empty: loopback for a publisher, nowhere for an agent
	Host                   string         // network namespace that it runs in; empty: this one's
	CA, Cert, Key          string         // a publisher's PEM files, for the bus and for an HTTP address beyond loopback
	Replicas               int            // that the publisher is told of
	Unproven               bool           // it goes on though the bus's durability cannot be proven
	Repair                 []string       // a repair instead of a publisher, with these copies; nil: none
	Dies                   *death         // where it kills itself; nil: nowhere
	Alarms                 string         // notify.yaml of a publisher; empty: nobody is told of anything
}

// program says whether the agent's connector is a program.
func (s settings) program() bool { return len(s.Connectors) > 0 && s.Connectors[0].Exec != nil }

// enclosed, where there is one, runs the tests in surroundings of their own.
var enclosed func(*testing.M) (code int)

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := beChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if enclosed != nil {
		os.Exit(enclosed(m))
	}
	inParallel()
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // what stays is in a temporary directory
	}
	if err := leaktest.Find(bustest.LeftBehind()...); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// inParallel lets more tests run at once than there are processors, unless a flag says how many: most of them wait most of the time.
func inParallel() {
	flag.Parse()
	named := false
	flag.Visit(func(f *flag.Flag) { named = named || f.Name == "test.parallel" })
	if !named {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))) // it is one of the testing package's
	}
}

func beChild(text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	clock := &clock{}
	clock.turn(s.Clock)
	go func() {
		clock.obey(os.Stdin)
		os.Exit(1) // it ends with the test that started it
	}()
	if s.Data != "" {
		return bePublisher(s, clock)
	}
	return beAgent(s, clock)
}

func bePublisher(s settings, clock *clock) error {
	o := publisher.Options{
		Data: s.Data, Listen: cmp.Or(s.Listen, bustest.OwnAddress()+":0"), NATS: s.NATS, MonitorURL: s.MonitorURL, Replicas: s.Replicas, AcceptUnprovenDurability: s.Unproven,
		CA: s.CA, Cert: s.Cert, Key: s.Key, Log: zerolog.New(os.Stderr).With().Timestamp().Logger(),
		Clock: clock.now, LeaseTTL: bustest.LeaseTTL, BeatWait: 200 * time.Millisecond, Recheck: 200 * time.Millisecond, PulseInterval: 300 * time.Millisecond,
	}
	if s.Listen != "" {
		o.TLS = &publisher.TLS{Cert: s.Cert, Key: s.Key, ClientCA: s.CA}
		host, _, _ := net.SplitHostPort(s.Listen)
		o.Hosts = []string{host}
	}
	if s.Alarms != "" {
		config, err := notify.ParseConfig("notify.yaml", []byte(s.Alarms))
		if err != nil {
			return err
		}
		o.Notify = config
	}
	if s.Dies != nil {
		if err := s.Dies.await(&o); err != nil {
			return err
		}
	}
	if s.Repair != nil {
		return beRepair(publisher.RepairOptions{Options: o, From: s.Repair})
	}
	return publisher.Run(context.Background(), o, func(p *publisher.Publisher) { fmt.Println(p.URL()) })
}

func beAgent(s settings, clock *clock) error {
	e, err := keys.ReadEnrolment(s.Enrolment)
	if err != nil {
		return err
	}
	list := s.Connectors
	if len(list) == 0 {
		list = []build.Config{{Name: "files", File: &file.Config{Root: s.Root, Files: instanceFiles}}}
	}
	router, closer, err := build.Open(list, filepath.Dir(s.Root), "scenario")
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Options{Enrolment: e, State: s.State, Router: router, Listen: s.Listen, Clock: clock.now, Log: zerolog.New(os.Stderr).With().Timestamp().Logger(), Intervals: agent.Intervals{
		Beat: 300 * time.Millisecond, Pulse: 700 * time.Millisecond, Check: 400 * time.Millisecond, Retry: 20 * time.Millisecond, Most: 40 * time.Millisecond, Reconnect: 100 * time.Millisecond,
	}})
	if err != nil {
		return errors.Join(err, closer.Close())
	}
	return errors.Join(a.Run(context.Background()), closer.Close())
}

// A clock is a child's, which the test turns.
type clock struct{ off atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

func (c *clock) turn(off time.Duration) { c.off.Store(int64(off)) }

// obey turns the clock as each line says, until there are no more.
func (c *clock) obey(orders io.Reader) {
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		if off, err := time.ParseDuration(lines.Text()); err == nil {
			c.turn(off)
		}
	}
}

// A process is a child that runs or has ended.
type process struct {
	cmd   *exec.Cmd
	stdin io.Writer
	out   *bufio.Reader
	said  *said
	ended chan struct{}
	once  sync.Once
}

// said is the end of what a child logged.
type said struct {
	mu   sync.Mutex
	text []byte
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b...)
	if surplus := len(s.text) - 32<<10; surplus > 0 {
		s.text = bytes.Clone(s.text[surplus:])
	}
	return len(b), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

func startProcess(t testing.TB, s settings, log *said) *process {
	t.Helper()
	text, err := json.Marshal(s)
	must(t, err)
	p := &process{cmd: exec.Command(os.Args[0]), said: log, ended: make(chan struct{})}
	if s.Host != "" {
		p.cmd = exec.Command("ip", "netns", "exec", s.Host, os.Args[0]) // which it becomes
	}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stderr = log
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = bufio.NewReader(out)
	must(t, p.cmd.Start())
	return p
}

// wait returns when the process has ended.
func (p *process) wait() {
	p.once.Do(func() {
		_ = p.cmd.Wait() // its error says that it was killed
		close(p.ended)
	})
	<-p.ended
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	p.wait()
}

func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	must(t, p.cmd.Process.Signal(s))
}

// turnClock lets the child's clock be off by that much from now on.
func (p *process) turnClock(t testing.TB, off time.Duration) {
	t.Helper()
	_, err := fmt.Fprintln(p.stdin, off)
	must(t, err)
}

// room bounds how far the child may write files, in bytes, as a full disk would: the kernel refuses what is beyond. Negative: no
// bounds.
func (p *process) room(t testing.TB, bytes int64) {
	t.Helper()
	must(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(bytes), Max: unix.RLIM_INFINITY}, nil))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
