// Package dashboard shows where every environment stands, in a browser: pages rendered on the server from the projection that the
// CLI and the API read, one small script that keeps them live, and nothing from elsewhere.
//
// Guarantees: it only reads; every page works without the script; every page says as of when it is, and says so loudly when what it
// shows may be old; whatever people and agents wrote is shown as text, with what a browser would obey made visible; watching costs the
// publisher a bounded share of its time, however many watch. It decides nothing and keeps nothing.
package dashboard
