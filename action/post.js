// After the job's steps: save, and tell in the job's summary what the cache did.
'use strict';

const fs = require('node:fs');
const runner = require('./runner');
const larder = require('./larder');

/** Why nothing is saved, in words; null where it is. */
function whyNot(save, status) {
    if (save === 'never') return 'save is never';
    if (save === 'always' || status === 'success') return null;
    if (status === '') return 'this runner does not tell how the job went; `save: always` saves all the same';
    return `the job ended with ${status}, and save is success`;
}

/** The table is the binary's, so that `larder run` and this agree; one that cannot make it is no reason to complain. */
async function summarise(binary, told) {
    const file = process.env.GITHUB_STEP_SUMMARY;
    if (!file) return;
    const { code, out } = await larder.start(binary, ['summary'], JSON.stringify(told));
    if (code === 0) fs.appendFileSync(file, out);
}

async function main() {
    const save = runner.kept('save');
    if (save === '') return;
    const binary = runner.kept('binary');
    const status = runner.input('job-status').toLowerCase();
    const told = { job: runner.kept('job'), restore: null, save: null };
    let failure = null;
    try {
        told.restore = JSON.parse(runner.kept('restored'));
        const why = whyNot(save, status);
        if (why) {
            runner.say(`nothing is saved: ${why}`);
        } else {
            // After a failure a unit that nobody wanted may only not have been reached.
            const prune = status === 'success' ? ['--prune'] : [];
            const { object } = await larder.ask(binary, 'save', [...JSON.parse(runner.kept('arguments')), ...prune]);
            told.save = object;
            runner.say(`${object.outcome} ${object.key}: ${object.files} files, ${object.added_bytes} bytes new, ` +
                `in ${object.duration_ms} ms`);
        }
    } catch (error) {
        failure = error.message;
    }
    try {
        await summarise(binary, told);
    } catch (error) {
        failure ??= error.message;
    }
    if (failure === null) return;
    if (runner.flag('fail-on-error')) {
        runner.fail(failure);
        process.exitCode = 1;
    } else {
        runner.warn(`${failure}; nothing is saved`);
    }
}

main();
