package bustest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// A Process is a nats-server of its own, with an fsynced store, that can be killed without warning and started again on the same
// address with the same store.
type Process struct {
	t            testing.TB
	program, dir string
	address      string
	limit        int64
	more         string
	cmd          *exec.Cmd
}

// StartProcess starts a nats-server, built from the module that go.mod names. It ends with the test.
func StartProcess(t testing.TB) *Process {
	t.Helper()
	program, err := Program()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, program: program, dir: t.TempDir(), address: OwnAddress()}
	t.Cleanup(func() { p.Kill() })
	p.Restart()
	return p
}

// URL is where clients connect.
func (p *Process) URL() string { return "nats://" + p.address + ":4222" }

// MonitorURL is where the server describes itself.
func (p *Process) MonitorURL() string { return "http://" + p.address + ":8222" }

// StoreDir is where the server keeps its streams.
func (p *Process) StoreDir() string { return filepath.Join(p.dir, "store") }

// Limit bounds what all streams together may store from the next Restart on, in bytes, as a full disk would; 0: as much as there is
// room.
func (p *Process) Limit(bytes int64) { p.limit = bytes }

// Configure adds lines to the server's configuration from the next Restart on.
func (p *Process) Configure(lines string) { p.more = lines }

// Room bounds how far the running server may write files, in bytes: the kernel refuses what is beyond. Negative: no bounds. A server
// that was refused something keeps its streams closed until it is restarted.
func (p *Process) Room(bytes int64) {
	p.t.Helper()
	limit := unix.Rlimit{Cur: uint64(bytes), Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		p.t.Fatal(err)
	}
}

// Holds says whether a stream has stored a text on disk.
func (p *Process) Holds(stream, text string) bool {
	p.t.Helper()
	_, _, at := p.find(stream, text)
	return at >= 0
}

// FlipBit damages the first byte of a text where a stream stores it. The server must not run.
func (p *Process) FlipBit(stream, text string) {
	p.t.Helper()
	file, block, at := p.find(stream, text)
	if at < 0 {
		p.t.Fatalf("%q is in no block of %s", text, stream)
	}
	block[at] ^= 1
	if err := os.WriteFile(file, block, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// find is the first block of a stream that holds a text, and where; at is negative where none does.
func (p *Process) find(stream, text string) (file string, block []byte, at int) {
	p.t.Helper()
	blocks, err := filepath.Glob(filepath.Join(p.StoreDir(), "jetstream", "*", "streams", stream, "msgs", "*.blk"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range blocks {
		block, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		if at := bytes.Index(block, []byte(text)); at >= 0 {
			return file, block, at
		}
	}
	return "", nil, -1
}

// Kill ends the server with SIGKILL and returns when it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait() // its error says that it was killed
	p.cmd = nil
}

// Pause freezes the server with SIGSTOP: connections stay, nothing answers.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Restart starts the server after Kill and returns when it accepts connections.
func (p *Process) Restart() {
	p.t.Helper()
	limit := ""
	if p.limit > 0 {
		limit = fmt.Sprintf(", max_file_store: %d", p.limit)
	}
	config := fmt.Sprintf("listen: %s:4222\nhttp: %s:8222\njetstream { store_dir: %q, sync_interval: always%s }\n", p.address, p.address, p.StoreDir(), limit) + p.more
	file := filepath.Join(p.dir, "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(p.program, "-c", file)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, "nats-server accepts connections on "+p.URL(), func() bool {
		conn, err := net.Dial("tcp", p.address+":4222")
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

var build sync.Mutex

// Program builds nats-server, once per version and machine, and returns its path.
func Program() (string, error) {
	build.Lock()
	defer build.Unlock()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("lockstep-bustest-%d", os.Getuid()))
	file := filepath.Join(dir, "nats-server-"+server.VERSION+"-"+runtime.Version())
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// Another test process may be building too: each builds a file of its own, and the last rename wins.
	fresh := fmt.Sprintf("%s.%d", file, os.Getpid())
	if out, err := exec.Command("go", "build", "-o", fresh, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return file, os.Rename(fresh, file)
}

// OwnAddress is a loopback address that nobody else uses, so that its ports are free before the server starts and between Kill and
// Restart: on 127.0.0.1 any other process may be given them meanwhile.
func OwnAddress() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
}
