# What client, daemon, tools and tests share. Goes into libtalea, so it needs libc alone.
shm_src := $(wildcard shm/*.c)
