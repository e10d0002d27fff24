package fault

const (
	agent     = "agent"
	publisher = "publisher"
)

// The agent's. Its connectors' are among them.
var (
	InstanceLocked   = point(agent, "instance locked")
	StoreMade        = point(agent, "store made")
	TrustReadAhead   = point(agent, "trust document read ahead kept")
	PendingWritten   = point(agent, "pending run written")
	PendingNamed     = whole(agent, "pending run named")
	BackupMade       = whole(agent, "backup of the first contact made") // its files are pre-images
	PreImageSaved    = point(agent, "pre-image saved")
	IntentDeclared   = point(agent, "intent declared")
	InstanceApplied  = point(agent, "instance applied") // by all connectors
	FileStaged       = point(agent, "file staged")
	ReloadMarked     = whole(agent, "reload marked")
	FilesReplaced    = point(agent, "files replaced")
	DirectorySynced  = point(agent, "directory synced")
	ReloadDone       = whole(agent, "reload done")
	InstanceReadBack = whole(agent, "instance read back")
	CheckpointMoved  = point(agent, "checkpoint moved") // with state, history and acks
	PreImagesDropped = point(agent, "pre-images dropped")
	PendingDropped   = whole(agent, "pending run dropped")
	AckSent          = point(agent, "ack sent")
	AcksForgotten    = point(agent, "acks forgotten")    // with the newest pulse
	InstancePutBack  = whole(agent, "instance put back") // its parts are files that are staged and replaced
	IntentWithdrawn  = point(agent, "intent withdrawn")
	FailureKept      = point(agent, "failure kept") // with its ack
	HoldKept         = point(agent, "hold kept")
)

// The publisher's, its repair's last.
var (
	DataLocked       = whole(publisher, "data directory locked")
	KeyMade          = point(publisher, "key made")
	StreamsMade      = point(publisher, "streams made")
	ContentAppended  = point(publisher, "content appended")
	EntryAppended    = point(publisher, "entry appended")
	EntryCopied      = point(publisher, "entry copied")
	CopyMarked       = point(publisher, "checked copy marked")
	LeaseTaken       = whole(publisher, "lease taken")
	ReleasesPurged   = point(publisher, "releases purged")
	ReleasesSent     = point(publisher, "releases sent")
	DeliveryRecorded = point(publisher, "deliveries recorded")
	AlarmsKept       = whole(publisher, "alarms kept")

	ReplacedKept    = point(publisher, "replaced ledger kept")
	CopyWritten     = point(publisher, "copy written anew")
	LedgerMadeAnew  = point(publisher, "ledger made anew")
	EntriesRestored = point(publisher, "entries restored")
)
