// Package demo runs everything on one machine: an embedded bus, the control plane, and four environments with an agent each that
// keeps real configuration files of an application. It proposes, approves and releases a few changes, and shows what came of them.
//
// Its commands have fixed ids, so that a demo on a kept directory goes on where it was. It is for looking and trying, not for
// production: everything listens on loopback, and nobody has to prove who they are.
package demo
