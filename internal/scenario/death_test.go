package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/publisher"
)

// A death is where a publisher kills itself: when it comes to a stage of a point for the first time.
type death struct {
	Point string
	Stage fault.Stage

	armed atomic.Bool // what is sent of the step is cut
}

func (d *death) String() string { return fmt.Sprintf("%s %s", d.Point, d.Stage) }

// sent are the points whose middle is a request of which half reaches the bus, and what is in it.
var sent = map[string]string{
	fault.StreamsMade.Name:      "STREAM.CREATE.RELEASES ", // the ledger has been made
	fault.ContentAppended.Name:  "HPUB lockstep.ledger ",
	fault.EntryAppended.Name:    "HPUB lockstep.ledger ",
	fault.DeliveryRecorded.Name: "HPUB lockstep.ledger ",
	fault.ReleasesSent.Name:     "HPUB lockstep.release.",
	fault.ReleasesPurged.Name:   "STREAM.PURGE.RELEASES ",
}

func (d *death) die() error {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// await lets a publisher die.
func (d *death) await(o *publisher.Options) (err error) {
	cut := d.Stage == fault.Torn && sent[d.Point] != ""
	o.Fault = func(p fault.Point, s fault.Stage) error {
		switch {
		case p.Name != d.Point:
		case s == d.Stage:
			return d.die()
		case s == fault.Before:
			d.armed.Store(cut)
		}
		return nil
	}
	if cut {
		o.NATS, err = d.cutting(o.NATS)
	}
	return err
}

// cutting forwards to a bus until it is to be cut: then half of the request is, and the publisher dies.
func (d *death) cutting(bus string) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(bus, "nats://"))
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
			go func() { _, _ = io.Copy(&half{d, out}, in); _ = out.Close() }()
		}
	}()
	return "nats://" + l.Addr().String(), nil
}

type half struct {
	d *death
	io.Writer
}

func (h *half) Write(b []byte) (int, error) {
	if h.d.armed.Load() {
		if at := bytes.Index(b, []byte(sent[h.d.Point])); at >= 0 {
			_, _ = h.Writer.Write(b[:at+(len(b)-at)/2])
			return 0, h.d.die()
		}
	}
	return h.Writer.Write(b)
}

func beRepair(o publisher.RepairOptions) error {
	ctx := context.Background()
	r, err := publisher.OpenRepair(ctx, o)
	if err == nil {
		err = r.Run(ctx, time.Now())
	}
	if r != nil {
		err = errors.Join(err, r.Stop(ctx))
	}
	return err
}

// startDying starts a publisher, or its repair, that dies somewhere. The function that it returns waits until it has.
func (p *pub) startDying(d *death, repair []string) (died func()) {
	t := p.w.t
	t.Helper()
	s := p.settings
	s.Dies, s.Repair = d, repair
	process := startProcess(t, s, &p.log)
	t.Cleanup(process.kill)
	gone := make(chan struct{})
	go func() { // its output ends with it
		defer close(gone)
		if line, err := process.out.ReadString('\n'); err == nil {
			p.reach(process, strings.TrimSpace(line))
		}
		_, _ = io.Copy(io.Discard, process.out)
		process.wait()
	}()
	return func() {
		t.Helper()
		bustest.Eventually(t, "the publisher dies: "+d.String(), func() bool {
			select {
			case <-gone:
				return true
			default:
				return false
			}
		})
		if status := process.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
			t.Fatalf("the publisher ended by itself (%s) and not at %s", process.cmd.ProcessState, d)
		}
	}
}
