package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The types of events that are sent.
const (
	TypeRaised   = "dev.lockstep.alarm.raised.v1"
	TypeResolved = "dev.lockstep.alarm.resolved.v1"
)

// A Message is a delivery as it goes over HTTP.
type Message struct {
	ContentType string
	Body        []byte
}

// event is a CloudEvent 1.0 in structured JSON.
type event struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            data      `json:"data"`
}

// data is what an event says. Alarm is the same in both events of an episode.
type data struct {
	Alarm string `json:"alarm"`
	About string `json:"about"`
	Finding
	Raised time.Time `json:"raised"`
	Ended  time.Time `json:"ended,omitzero"`
	Link   string    `json:"link,omitempty"`
}

// Message is what a target is sent. The same delivery gives the same bytes.
func (c *Config) Message(ledgerID string, d Delivery) (Message, error) {
	for _, t := range c.Targets {
		if t.Name == d.Target && t.Format == FormatSlack {
			body, err := json.Marshal(map[string]string{"text": c.text(d)})
			return Message{"application/json", body}, err
		}
	}
	e := event{
		SpecVersion: "1.0", ID: d.ID, Source: "/lockstep/" + ledgerID, Type: TypeRaised, Subject: d.Alarm.subjectOf(), Time: d.Alarm.Raised.UTC(), DataContentType: "application/json",
		Data: data{Alarm: d.Alarm.ID, About: d.Alarm.about(), Finding: d.Alarm.Finding, Raised: d.Alarm.Raised.UTC(), Link: c.link(d.Alarm)},
	}
	if d.Resolved {
		e.Type, e.Time, e.Data.Ended = TypeResolved, d.Alarm.Ended.UTC(), d.Alarm.Ended.UTC()
	}
	body, err := json.Marshal(e)
	return Message{"application/cloudevents+json", body}, err
}

func (f Finding) subjectOf() string {
	switch {
	case f.Change != "":
		return "changes/" + f.Change
	case f.Environment != "":
		return "environments/" + f.Environment
	}
	return "ledger"
}

func (c *Config) link(a Alarm) string {
	if c.Link == "" || a.subjectOf() == "ledger" {
		return c.Link
	}
	return strings.TrimSuffix(c.Link, "/") + "/" + a.subjectOf()
}

// escape keeps what people wrote from being read as markup.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// clock is a time for people, wherever they are.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// text is a delivery for people, in Slack's markup.
func (c *Config) text(d Delivery) string {
	a := d.Alarm
	word, since := "Alarm", a.Since
	if since.IsZero() {
		since = a.Raised
	}
	when := "since " + clock(since)
	if d.Resolved {
		word = "Resolved after " + a.Ended.Sub(a.Raised).Round(time.Second).String()
		when = "from " + clock(since) + " until " + clock(a.Ended)
	}
	out := fmt.Sprintf("*%s*: %s", word, escape.Replace(a.about())) + "\n" + when
	if why := strings.TrimSpace(strings.TrimPrefix(string(a.Reason)+": "+a.Message, ": ")); why != "" {
		out += "\n" + escape.Replace(why)
	}
	out += "\n" + escape.Replace(a.People())
	out += "\n`" + escape.Replace(a.Next) + "`"
	if link := c.link(a); link != "" {
		out += "\n" + link
	}
	return out + "\nalarm " + a.ID
}
