package scenario

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

// A frame is one operation of the NATS protocol, as it stands on the wire: a line, and a body where the line says how long it is.
type frame struct {
	line []byte // with its end
	body []byte // with its end; nil where the operation has none
}

var errFrame = errors.New("no NATS frame")

const (
	longestLine = 64 << 10
	longestBody = 64 << 20
)

// readFrame reads the next frame. It keeps what it does not know: bytes() are those that were read.
func readFrame(r *bufio.Reader) (frame, error) {
	var f frame
	for {
		part, err := r.ReadSlice('\n')
		f.line = append(f.line, part...)
		switch {
		case err == nil:
		case errors.Is(err, bufio.ErrBufferFull) && len(f.line) < longestLine:
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			return f, fmt.Errorf("%w: a line of more than %d bytes", errFrame, longestLine)
		default:
			return f, err
		}
		break
	}
	size, has, err := f.size()
	if err != nil || !has {
		return f, err
	}
	f.body = make([]byte, size+2)
	if _, err := io.ReadFull(r, f.body); err != nil {
		return f, err
	}
	if !bytes.HasSuffix(f.body, []byte("\r\n")) {
		return f, fmt.Errorf("%w: a body of %d bytes does not end where it should", errFrame, size)
	}
	return f, nil
}

func (f frame) bytes() []byte { return append(bytes.Clone(f.line), f.body...) }

func (f frame) fields() []string { return strings.Fields(string(f.line)) }

// op is what the frame does, in capitals: PUB, HMSG, PING, …
func (f frame) op() string {
	if fields := f.fields(); len(fields) > 0 {
		return strings.ToUpper(fields[0])
	}
	return ""
}

// bodies are those of messages.
var bodies = map[string]struct{ least, most, header int }{ // fields, and those among them that are sizes of a header
	"PUB": {3, 4, 0}, "HPUB": {4, 5, 1}, "MSG": {4, 5, 0}, "HMSG": {5, 6, 1},
}

// size is that of the body, without its end.
func (f frame) size() (n int, has bool, err error) {
	kind, has := bodies[f.op()]
	if !has {
		return 0, false, nil
	}
	fields := f.fields()
	if len(fields) < kind.least || len(fields) > kind.most {
		return 0, false, fmt.Errorf("%w: %d fields in %.40q", errFrame, len(fields), f.line)
	}
	n, err = strconv.Atoi(fields[len(fields)-1])
	if err != nil || n < 0 || n > longestBody {
		return 0, false, fmt.Errorf("%w: a body of %.40q bytes", errFrame, fields[len(fields)-1])
	}
	return n, true, nil
}

// subject of a message or a subscription; empty of anything else.
func (f frame) subject() string {
	if _, is := bodies[f.op()]; is || f.op() == "SUB" {
		return f.fields()[1]
	}
	return ""
}

// content is the body without its end.
func (f frame) content() []byte { return f.body[:len(f.body)-2] }

// payload is the content without its header.
func (f frame) payload() []byte {
	content := f.content()
	if fields := f.fields(); bodies[f.op()].header > 0 {
		if header, err := strconv.Atoi(fields[len(fields)-2]); err == nil && header >= 0 && header <= len(content) {
			return content[header:]
		}
	}
	return content
}

// message is what a server sends to a subscription; header may be empty.
func message(subject, sid, header string, payload []byte) frame {
	if header == "" {
		return frame{fmt.Appendf(nil, "MSG %s %s %d\r\n", subject, sid, len(payload)), append(bytes.Clone(payload), "\r\n"...)}
	}
	header = "NATS/1.0\r\n" + header + "\r\n\r\n"
	content := append([]byte(header), payload...)
	return frame{fmt.Appendf(nil, "HMSG %s %s %d %d\r\n", subject, sid, len(header), len(content)), append(content, "\r\n"...)}
}

// altered is the frame with one byte of its content changed.
func (f frame) altered(at int, by byte) frame {
	if content := f.content(); len(content) > 0 {
		f.body = bytes.Clone(f.body)
		f.body[at%len(content)] ^= max(by, 1)
	}
	return f
}

// FuzzFrame: what is read as a frame is what was on the wire, byte by byte, and no more; altering it alters one byte of its content.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		"PING\r\n", "+OK\r\n", "INFO {\"server_id\":\"x\"} \r\n", "CONNECT {\"verbose\":false}\r\n", "SUB lockstep.live.prod 3\r\n", "UNSUB 3 1\r\n",
		"PUB lockstep.beat.prod.one 5\r\nhello\r\nPONG\r\n", "HPUB lockstep.ack.prod.one _INBOX_prod_one.x 23 25\r\nNATS/1.0\r\nA: 1234\r\n\r\nhi\r\n",
		"MSG lockstep.pulse 2 0\r\n\r\n", "HMSG lockstep.live.prod 3 22 24\r\nNATS/1.0\r\nA: 123\r\n\r\nhi\r\n", "HMSG a 1 2\r\n", "PUB a -1\r\n", "pub a 1\r\nx\r\n",
		"MSG a 1 99999999999999999999\r\n", "MSG a 1 3\r\nabcde\r\n", "-ERR 'Slow Consumer'\r\n", "PUB a", "\r\n",
	} {
		f.Add([]byte(seed), 3, byte(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, at int, by byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for read := 0; ; {
			got, err := readFrame(r)
			if err != nil {
				return
			}
			wire := got.bytes()
			if !bytes.Equal(wire, b[read:read+len(wire)]) {
				t.Fatalf("%q was read as %q", b[read:], wire)
			}
			read += len(wire)
			if got.body == nil {
				continue
			}
			if p := got.payload(); !bytes.HasSuffix(got.content(), p) {
				t.Fatalf("the payload %q is not the end of %q", p, got.content())
			}
			differ, changed := 0, got.altered(max(at, 0), by).bytes()
			for i := range wire {
				if wire[i] != changed[i] {
					differ++
				}
			}
			if want := min(1, len(got.content())); differ != want || len(changed) != len(wire) {
				t.Fatalf("%q became %q", wire, changed)
			}
			again, err := readFrame(bufio.NewReader(bytes.NewReader(changed)))
			if err != nil || !bytes.Equal(again.bytes(), changed) {
				t.Fatalf("%q is not read again: %v", changed, err)
			}
		}
	})
}

func TestAMessageThatIsMadeIsReadAsWhatItIs(t *testing.T) {
	for _, header := range []string{"", "Lockstep-Signature: x"} {
		got, err := readFrame(bufio.NewReader(bytes.NewReader(message("lockstep.live.prod", "7", header, []byte("payload")).bytes())))
		if err != nil || got.subject() != "lockstep.live.prod" || string(got.payload()) != "payload" {
			t.Errorf("%q: %v", got.bytes(), err)
		}
	}
}
