#!/bin/bash
# Start a Slurm of one invented node in a folder, or stop it by the ids of its daemons.
#
#   tests/clusters/slurm.sh start /tmp/slurm     needs root, and: apt-get install slurm-wlm munge
#   export SLURM_CONF=/tmp/slurm/slurm.conf      then: ovmer sweep -m ... hydra/launcher=submitit_slurm
#   tests/clusters/slurm.sh stop /tmp/slurm
#
# It has no accounting. NODATA=/data: the node sees an empty folder there.
set -eu
what=$1 folder=$2

stop() {
    for file in "$folder"/*.pid; do
        [ -e "$file" ] && kill "$(cat "$file")" 2>/dev/null && rm -f "$file" || true
    done
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
    pgrep -x munged >/dev/null || su munge -s /bin/sh -c "munged --pid-file=/run/munge/own.pid"
    [ -e /run/munge/own.pid ] && cp /run/munge/own.pid "$folder/munged.pid"
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld
    if [ "${NODATA:-}" ]; then
        unshare -m sh -c "mount --bind '$folder/empty' '$NODATA' && exec slurmd -N localhost"
    else
        slurmd -N localhost
    fi
}

$what
