"""Ray at the edge: session, streams, pools, shard actors, training workers."""
