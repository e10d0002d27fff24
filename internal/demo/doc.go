// Package demo runs everything on one machine: an embedded bus, the control plane, and five environments with an agent each that
// keeps real configuration files of an application. Their source is the example's directory of manifests: it proposes, approves and
// releases that, edits it, proposes it again, and shows what came of it.
//
// Its commands have fixed ids, so that a demo on a kept directory goes on where it was, and are signed by the people who act in it. It is
// for looking and trying, not for production: everything listens on loopback, and everybody's keys lie in one directory, the root's too.
package demo
