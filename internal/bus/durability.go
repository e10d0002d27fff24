package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Proof says where to look for the durability of an existing NATS.
type Proof struct {
	MonitorURL        string // the server's monitoring address; empty: port 8222 of a server on this machine
	SystemCredentials string // credentials file of the system account
}

const (
	durableReplicas = 3
	proofBytes      = 4 << 20
)

// varz is the part of a server's description that matters.
type varz struct {
	ID        string `json:"server_id"`
	JetStream struct {
		Config struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`
}

// ProveDurability shows that an append survives power loss: LEDGER has three replicas, or the server to which this connection
// goes is seen to fsync always. Otherwise the error is ErrDurabilityUnproven and says what was tried.
func (c *Conn) ProveDurability(ctx context.Context, p Proof) error {
	info, err := c.streamInfo(ctx, events.StreamLedger)
	if errors.Is(err, ErrNoStream) { // its repair makes it like the others
		info, err = c.streamInfo(ctx, events.StreamReleases)
	}
	if err != nil {
		return err
	}
	if info.Config.Replicas >= durableReplicas {
		return nil
	}
	var seen varz
	if p.SystemCredentials != "" {
		seen, err = c.systemVarz(ctx, p.SystemCredentials)
	} else {
		seen, err = c.monitorVarz(ctx, p.MonitorURL)
	}
	advice := "set sync_interval: always in its jetstream block, or make LEDGER with three replicas on a cluster"
	switch connected := c.nc.ConnectedServerId(); {
	case err != nil:
		return fmt.Errorf("%w: LEDGER has %d replica and the server's settings were not seen: %w: give its monitoring URL or system credentials, and %s", ErrDurabilityUnproven, info.Config.Replicas, err, advice)
	case seen.ID != connected:
		return fmt.Errorf("%w: the monitoring URL is of server %s, but the connection goes to %s: give the one that belongs to it", ErrDurabilityUnproven, seen.ID, connected)
	case !seen.JetStream.Config.SyncAlways:
		return fmt.Errorf("%w: server %s does not fsync every append: %s", ErrDurabilityUnproven, seen.ID, advice)
	}
	return nil
}

func (c *Conn) monitorVarz(ctx context.Context, base string) (v varz, err error) {
	if base == "" {
		host := hostOf(c.nc.ConnectedUrl())
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return v, fmt.Errorf("%s is another machine and no monitoring URL is given", cmp.Or(host, "the server"))
		}
		base = "http://" + net.JoinHostPort(host, "8222")
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/varz", nil)
	if err != nil {
		return v, err
	}
	request.Close = true // it is asked once
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return v, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return v, fmt.Errorf("%s: %s", request.URL, response.Status)
	}
	return readVarz(response.Body)
}

func readVarz(body io.Reader) (v varz, err error) {
	return v, json.NewDecoder(io.LimitReader(body, proofBytes)).Decode(&v)
}

func (c *Conn) systemVarz(ctx context.Context, credentials string) (v varz, err error) {
	o := c.opts
	o.Name, o.Credentials, o.Offline = o.Name+"-system", credentials, false
	nc, err := dial(ctx, cmp.Or(o.URL, nats.DefaultURL), o.nats())
	if err != nil {
		return v, fmt.Errorf("connect with system credentials: %w", err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, "$SYS.REQ.SERVER."+c.nc.ConnectedServerId()+".VARZ", nil)
	if err != nil {
		return v, fmt.Errorf("ask the system account: %w", err)
	}
	var answer struct {
		Data varz `json:"data"`
	}
	err = json.Unmarshal(reply.Data, &answer)
	return answer.Data, err
}

func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
