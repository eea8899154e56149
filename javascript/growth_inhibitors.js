// Growth Inhibitors: explanations on hover, in the header what is erased, and the progress of a training. The page works
// without it.
(function() {
    const tabs = ['txt2img', 'img2img'];
    const element = id => gradioApp().getElementById(id);
    const translated = text => (typeof localization === 'object' && localization[text]) || text;

    function addHelp(tab) {
        const holder = element(`gie_${tab}_help`)?.querySelector('[data-help]');
        if (!holder) return;
        for (const [id, text] of Object.entries(JSON.parse(holder.dataset.help))) {
            const field = element(id);
            if (field) field.title = translated(text);
        }
    }

    function showState(tab) {
        const accordion = element(`gie_${tab}_enabled`);
        const box = element(`gie_${tab}_enabled-checkbox`)?.querySelector('input');
        const text = element(`gie_${tab}_concepts`)?.querySelector('textarea, input');
        const label = accordion?.querySelector('.label-wrap > span');
        if (!box || !text || !label) return;
        const concepts = text.value.trim() || '?';
        const state = box.checked ? ': ' + (concepts.length > 60 ? concepts.slice(0, 59) + '…' : concepts) : '';
        let note = label.querySelector('.gie-header');
        if (!note) {
            note = document.createElement('span');
            note.className = 'gie-header';
            label.appendChild(note);
        }
        if (note.textContent !== state) note.textContent = state;
    }

    const refreshTraining = () => element('gie_train_refresh')?.click();

    function followTraining() {
        if (element('gie_train_status')?.querySelector('.gie-running')) refreshTraining();
    }

    onUiLoaded(() => {
        tabs.forEach(addHelp);
        [1000, 3000, 9000].forEach(later => setTimeout(refreshTraining, later)); // one may run that another page started
        setInterval(followTraining, 1000);
    });
    onAfterUiUpdate(() => tabs.forEach(showState));
    document.addEventListener('input', () => tabs.forEach(showState));
    document.addEventListener('change', () => tabs.forEach(showState));
})();
