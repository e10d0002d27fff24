package publisher_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/publisher"
)

// childVariable holds a child's settings: this test binary runs one publisher then, so that it can be killed.
const childVariable = "LOCKSTEP_TEST_PUBLISHER"

// childPulse is a child's pulse interval.
const childPulse = 300 * time.Millisecond

type childSettings struct {
	Data, NATS, MonitorURL string
	LeaseTTL               time.Duration // 0: bustest.LeaseTTL
}

func runChild() int {
	var s childSettings
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	o := options(s.Data, func(o *publisher.Options) {
		o.NATS, o.MonitorURL, o.PulseInterval, o.LeaseTTL = s.NATS, s.MonitorURL, childPulse, cmp.Or(s.LeaseTTL, o.LeaseTTL)
	})
	if err := publisher.Run(context.Background(), o, func(p *publisher.Publisher) { fmt.Println(p.URL()) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A child is a publisher in a process of its own.
type child struct {
	*client.Client
	cmd *exec.Cmd
}

// startChild starts one and returns when it listens. It ends with the test.
func startChild(t testing.TB, s childSettings) *child {
	t.Helper()
	settings, err := json.Marshal(s)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(settings))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{cmd: cmd}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	c.Client, err = client.New(client.Target{Server: strings.TrimSpace(line)})
	must(t, err)
	return c
}

// kill ends it without warning.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone
	_ = c.cmd.Wait()         // its error says that it was killed
}
