package scenario

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A class is what a message between an agent and the bus is for.
type class string

const (
	live   class = "live"   // a release on the live tail
	pulse  class = "pulse"  // of the publisher
	answer class = "answer" // of the bus, to the agent: heads, messages of a catch-up, takings of an ack
	ack    class = "ack"
	beat   class = "beat"
	check  class = "check"  // a look at the head
	create class = "create" // a consumer, for a catch-up
	other  class = "other"
)

var classes = []struct {
	prefix string
	class  class
}{
	{"lockstep.live.", live}, {events.SubjectPulse, pulse}, {"lockstep.ack.", ack}, {"lockstep.beat.", beat},
	{"$JS.API.DIRECT.GET.", check}, {"$JS.API.CONSUMER.CREATE.", create}, {"_INBOX_", answer}, {"lockstep.release.", answer},
}

func classOf(f frame) class {
	for _, c := range classes {
		if strings.HasPrefix(f.subject(), c.prefix) {
			return c.class
		}
	}
	return other
}

// mostKept is how many copies are kept of what was seen.
const mostKept = 100

// Chances of what happens to a message, in percent; what is left passes. Drops and alterations end when there were Most of them.
type chances struct{ drop, double, delay, alter, most int }

// A tamper is a man in the middle who reads what agent and bus say to each other.
type tamper struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	random  *rand.Rand
	chances map[class]chances
	harmed  map[class]int     // dropped or altered
	seen    map[class]int     // messages
	looked  []class           // the looks at the head, and the catch-ups
	kept    map[class][]frame // copies of what was seen from the server, to be said again
	missed  map[string]int    // payloads of acks that were dropped or altered, and did not reach the bus
	conns   map[*tampered]bool
	joined  []time.Time // when somebody connected, or tried to
}

// A tampered connection is one of an agent.
type tampered struct {
	ends [2]net.Conn // the agent, the server
	held [2]sync.Mutex
	mu   sync.Mutex
	sids map[string]string // by subject
	told bool              // an answer of the server came: it knows what the agent, which asked after that, wants to hear
}

// between puts a tamper between an agent and the bus, who changes nothing for the time being.
func between(t testing.TB, seed uint64, a *inst) *tamper {
	t.Helper()
	p := newTamper(t, seed, a.link.to)
	a.link.cut()
	a.link.mu.Lock()
	a.link.to = p.listener.Addr().String()
	a.link.mu.Unlock()
	a.link.heal()
	bustest.Eventually(t, "the agent is back and listens", p.listens)
	return p
}

// newTamper listens until the test ends and passes everything on to a server.
func newTamper(t testing.TB, seed uint64, to string) *tamper {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &tamper{
		listener: l, to: to, random: rand.New(rand.NewPCG(seed, 3)), harmed: map[class]int{}, seen: map[class]int{}, kept: map[class][]frame{},
		missed: map[string]int{}, conns: map[*tampered]bool{},
	}
	t.Cleanup(func() { _ = l.Close(); p.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.join(in)
		}
	}()
	return p
}

// listens says whether an agent came back and the server knows what it wants to hear.
func (p *tamper) listens() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.mu.Lock()
		told := c.told
		c.mu.Unlock()
		if told {
			return true
		}
	}
	return false
}

func (p *tamper) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.close()
	}
}

func (c *tampered) close() {
	for _, end := range c.ends {
		_ = end.Close() // it may be closed
	}
}

func (p *tamper) join(in net.Conn) {
	p.mu.Lock()
	p.joined = append(p.joined, time.Now())
	p.mu.Unlock()
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = in.Close()
		return
	}
	c := &tampered{ends: [2]net.Conn{in, out}, sids: map[string]string{}}
	p.mu.Lock()
	p.conns[c] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}()
	go p.pump(c, 0)
	p.pump(c, 1)
}

// pump reads what one end says until either is closed.
func (p *tamper) pump(c *tampered, from int) {
	defer c.close()
	r := bufio.NewReader(c.ends[from])
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if f.op() == "SUB" {
			fields := f.fields()
			c.mu.Lock()
			c.sids[fields[1]] = fields[len(fields)-1]
			c.mu.Unlock()
		}
		if f.body == nil {
			c.write(1-from, f)
			continue
		}
		if classOf(f) == answer {
			c.mu.Lock()
			c.told = true
			c.mu.Unlock()
		}
		for after, copies := range p.fate(f) {
			for _, f := range copies {
				if after == 0 {
					c.write(1-from, f)
				} else {
					time.AfterFunc(after, func() { c.write(1-from, f) })
				}
			}
		}
	}
}

func (c *tampered) write(to int, f frame) {
	c.held[to].Lock()
	defer c.held[to].Unlock()
	if _, err := c.ends[to].Write(f.bytes()); err != nil {
		c.close()
	}
}

// fate is when what arrives instead of a message. What is delayed is overtaken by what comes after it.
func (p *tamper) fate(f frame) map[time.Duration][]frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	kind := classOf(f)
	p.seen[kind]++
	if kind == check || kind == create {
		p.looked = append(p.looked, kind)
	}
	if kind == live || kind == pulse {
		p.kept[kind] = append(p.kept[kind][max(0, len(p.kept[kind])-mostKept):], f)
	}
	c := p.chances[kind]
	now := map[time.Duration][]frame{0: {f}}
	dice := p.random.IntN(100)
	if dice < c.drop+c.alter && p.harmed[kind] < c.most {
		p.harmed[kind]++
		if kind == ack {
			p.missed[string(f.payload())]++
		}
		if dice < c.drop {
			return nil
		}
		return map[time.Duration][]frame{0: {p.alter(f)}}
	}
	if dice -= c.drop + c.alter; dice >= 0 && dice < c.double {
		now[time.Duration(p.random.IntN(20))*time.Millisecond] = []frame{f}
		now[0] = append(now[0], f)
		return now
	}
	if dice -= c.double; dice >= 0 && dice < c.delay {
		return map[time.Duration][]frame{time.Duration(1+p.random.IntN(40)) * time.Millisecond: {f}}
	}
	return now
}

// alter changes one byte of the payload. mu is held.
func (p *tamper) alter(f frame) frame {
	n := len(f.payload())
	if n == 0 {
		return f.altered(p.random.IntN(1<<16), byte(p.random.Uint32()))
	}
	return f.altered(len(f.content())-n+p.random.IntN(n), byte(p.random.Uint32()))
}

// play sets what happens from now on; nil: everything passes.
func (p *tamper) play(c map[class]chances) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chances = c
}

// count is how often messages of a class were seen, and how many of them were dropped or altered.
func (p *tamper) count(kind class) (seen, harmed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[kind], p.harmed[kind]
}

// String says what was seen so far, and what of it was dropped or altered.
func (p *tamper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("seen %v, dropped or altered %v", p.seen, p.harmed)
}

// looks are the looks at the head and the catch-ups so far, in order.
func (p *tamper) looks() []class {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.looked)
}

// copies are what was seen of a class, from the server.
func (p *tamper) copies(kind class) []frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.kept[kind])
}

// lost are the payloads of acks that did not reach the bus, as often as they did not.
func (p *tamper) lost() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.missed)
}

// say sends the agent a message that the server did not send, if it listens to the subject. Signature may be empty.
func (p *tamper) say(subject, signature string, payload []byte) {
	header := ""
	if signature != "" {
		header = events.SignatureHeader + ": " + signature
	}
	p.mu.Lock()
	conns := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		sid := c.sids[subject]
		c.mu.Unlock()
		if sid != "" {
			c.write(0, message(subject, sid, header, payload))
		}
	}
}

// again sends the agent a copy of a message, maybe under another subject.
func (p *tamper) again(subject string, f frame) { p.say(subject, f.signature(), f.payload()) }

// signature is that of a copy, as its header has it.
func (f frame) signature() string {
	header := f.content()[:len(f.content())-len(f.payload())]
	_, rest, _ := strings.Cut(string(header), events.SignatureHeader+": ")
	signature, _, _ := strings.Cut(rest, "\r\n")
	return signature
}
