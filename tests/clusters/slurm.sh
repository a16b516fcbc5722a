#!/bin/bash
# Start a Slurm of one invented node in a folder, or stop it by the ids of its daemons.
#
#   tests/clusters/slurm.sh start /tmp/slurm     needs root, and: apt-get install slurm-wlm munge
#   export SLURM_CONF=/tmp/slurm/slurm.conf      then: ovmer sweep -m ... hydra/launcher=submitit_slurm
#   tests/clusters/slurm.sh stop /tmp/slurm
#
# NODATA=/data: the node sees an empty folder there. ACCOUNTING=1: with slurmdbd on a database of its
# own, which needs: apt-get install slurmdbd mariadb-server.
# `python -m tests.clusters.slurm FOLDER` starts it and tries what can happen to a job.
set -eu
what=$1 folder=$2

stop() {
    for name in slurmd slurmctld slurmdbd munged mariadb; do
        file="$folder/$name.pid"
        [ -e "$file" ] || continue
        process=$(cat "$file")
        kill "$process" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$process" 2>/dev/null && sleep 0.1 || break; done
        rm -f "$file"
    done
}

# Waits until the command succeeds, for ten seconds.
until_true() {
    for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return || sleep 0.1; done
    echo "failed: $*" >&2
    exit 1
}

accounting() {
    local base="$folder/mariadb" user="${SUDO_USER:-root}"
    mkdir -p "$base"
    mariadb-install-db --datadir="$base" --user="$user" --auth-root-authentication-method=normal >/dev/null
    mariadbd --no-defaults --datadir="$base" --socket="$base/socket" --pid-file="$folder/mariadb.pid" \
        --skip-networking --user="$user" >"$folder/mariadb.log" 2>&1 &
    until_true mariadb --no-defaults --socket="$base/socket" -u root -e 'create database if not exists slurm'
    cat >"$folder/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
PidFile=$folder/slurmdbd.pid
LogFile=$folder/slurmdbd.log
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=slurm
CONF
    chmod 600 "$folder/slurmdbd.conf"
    cat >>"$folder/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
JobAcctGatherType=jobacct_gather/linux
CONF
    export MYSQL_UNIX_PORT="$base/socket"
    slurmdbd
    until_true sacctmgr -n show cluster
    sacctmgr -i add cluster trial >/dev/null || true
}

start() {
    mkdir -p "$folder"/{state,spool,empty}
    id slurm >/dev/null 2>&1 || useradd --system slurm
    for card in 0 1; do
        [ -e "$folder/gpu$card" ] || mknod "$folder/gpu$card" c 1 3
    done
    cat >"$folder/gres.conf" <<CONF
NodeName=localhost Name=gpu File=$folder/gpu[0-1]
CONF
    cat >"$folder/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
NodeName=localhost CPUs=32 RealMemory=400000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=localhost Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=short Nodes=localhost MaxTime=00:02:00 State=UP
CONF
    mkdir -p /run/munge && chown munge /run/munge
    if ! pgrep -x munged >/dev/null; then
        su munge -s /bin/sh -c "munged --pid-file=/run/munge/own.pid"
        until_true test -e /run/munge/own.pid
        cp /run/munge/own.pid "$folder/munged.pid"
    fi
    export SLURM_CONF="$folder/slurm.conf"
    [ "${ACCOUNTING:-}" ] && accounting
    slurmctld
    if [ "${NODATA:-}" ]; then
        unshare -m sh -c "mount --bind '$folder/empty' '$NODATA' && exec slurmd -N localhost"
    else
        slurmd -N localhost
    fi
}

$what
