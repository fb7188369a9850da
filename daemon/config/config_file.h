/*
 * The text of a configuration file, and whether it can be trusted: a user who can write the file
 * decides what runs as root. Knows no syntax. config.c alone calls it.
 */
#ifndef DAEMON_CONFIG_FILE_H
#define DAEMON_CONFIG_FILE_H

#include "shm/base/why.h"

/* The whole file as a string that the caller frees. 0, or -errno with why; -ENOENT: there is none. */
int config_file_read(const char *path, char **ret_text, struct why *why);

/* Calls visit with the path of each *.conf file of a folder, in the order of their names. */
void config_file_each(const char *folder, void (*visit)(const char *path, void *arg), void *arg);

#endif
