// Growth Inhibitors: explanations on hover and for screen readers, in the header what is erased, fields that are shown
// only where they have an effect, the images with and without erasure one over the other, and the progress of a training.
// The page works without it: all fields are shown then, both images are beside each other in the gallery, and what the
// page says of its fields is what it said when it was built.
(function() {
    const tabs = ['txt2img', 'img2img'];
    const element = id => gradioApp().getElementById(id);
    const translated = text => (typeof localization === 'object' && localization[text]) || text;
    const pages = {};
    const chosen = {}; // by field what a dropdown is set to: its input shows what is typed to find an entry

    function pageOf(tab) {
        if (!pages[tab]) {
            const holder = element(`gie_${tab}_help`)?.querySelector('[data-page]');
            if (holder) pages[tab] = JSON.parse(holder.dataset.page);
        }
        return pages[tab];
    }

    function valueOf(id) {
        const input = element(id)?.querySelector('textarea, input');
        if (!input) return undefined;
        if (id in chosen) return chosen[id];
        if (input.type === 'checkbox') return input.checked;
        return input.type === 'number' ? Number(input.value) : input.value;
    }

    // -- explanations

    function addHelp(tab) {
        for (const id of pageOf(tab)?.fields || []) {
            const field = element(id);
            const help = element(`${id}_help`);
            if (!field || !help) continue;
            field.title = translated(help.textContent);
            const label = field.querySelector('[data-testid="block-info"]')?.textContent;
            for (const input of field.querySelectorAll('textarea, input')) {
                if (id === `gie_${tab}_enabled` && input.id !== `${id}-visible-checkbox`) continue;
                input.setAttribute('aria-describedby', help.id);
                if (input.type === 'number' && label) input.setAttribute('aria-label', label); // gradio labels the range
            }
        }
        addLabels(tab);
    }

    function addLabels(tab) {
        const label = (id, text) => element(id)?.setAttribute('aria-label', translated(text));
        label(`gie_${tab}_enabled-visible-checkbox`, 'Erase concepts (Growth Inhibitors)');
        label(`gie_${tab}_adapter_refresh`, 'Look for new adapters');
        label(`gie_${tab}_presets`, 'Presets');
        element(`gie_${tab}_presets`)?.setAttribute('role', 'group');
        for (const part of ['tokens', 'notice']) element(`gie_${tab}_${part}`)?.setAttribute('aria-live', 'polite');
    }

    // -- headers that open and close: gradio's can be clicked alone

    const isOpen = wrap => wrap.classList.contains('open');

    function makeButton(button, wrap, name) {
        button.tabIndex = 0;
        button.setAttribute('role', 'button');
        if (name) button.setAttribute('aria-label', translated(name));
        const tell = () => button.setAttribute('aria-expanded', isOpen(wrap));
        new MutationObserver(tell).observe(wrap, {attributes: true, attributeFilter: ['class']});
        tell();
        button.addEventListener('keydown', event => {
            if (event.target !== button || (event.key !== 'Enter' && event.key !== ' ')) return;
            event.preventDefault();
            wrap.click();
        });
    }

    function addButtons(tab) {
        const outer = element(`gie_${tab}_enabled`)?.querySelector('.label-wrap');
        const arrow = outer?.querySelector(':scope > .icon');
        if (arrow) makeButton(arrow, outer, 'Show the fields'); // the header has a tick in it
        const inner = element(`gie_${tab}_advanced`)?.querySelector('.label-wrap');
        if (!inner) return;
        makeButton(inner, inner);
        rememberOpen(inner, `gie-${tab}-advanced`);
    }

    function rememberOpen(wrap, key) {
        try {
            if (localStorage.getItem(key) === 'open' && !isOpen(wrap)) wrap.click();
            new MutationObserver(() => localStorage.setItem(key, isOpen(wrap) ? 'open' : 'closed'))
                .observe(wrap, {attributes: true, attributeFilter: ['class']});
        } catch (error) { // the browser keeps nothing for this page
            console.log(`Growth Inhibitors: whether Advanced is open is not remembered: ${error}`);
        }
    }

    // -- what is said in the headers

    function say(wrap, text) {
        const label = wrap?.querySelector(':scope > span');
        if (!label) return;
        let note = label.querySelector('.gie-header');
        if (!note) {
            note = document.createElement('span');
            note.className = 'gie-header';
            label.appendChild(note);
        }
        if (note.textContent !== text) note.textContent = text;
    }

    function showState(tab) {
        const box = element(`gie_${tab}_enabled-checkbox`)?.querySelector('input');
        const text = valueOf(`gie_${tab}_concepts`);
        if (!box || text === undefined) return;
        const concepts = text.trim() || translated('nothing typed yet');
        const state = box.checked ? ': ' + (concepts.length > 60 ? concepts.slice(0, 59) + '…' : concepts) : '';
        say(element(`gie_${tab}_enabled`)?.querySelector('.label-wrap'), state);
    }

    function showAdvanced(tab) {
        const changed = [];
        for (const [id, [label, usual]] of Object.entries(pageOf(tab)?.advanced || {})) {
            const value = valueOf(id);
            if (value === undefined || value === usual || element(id).classList.contains('gie-hidden')) continue;
            changed.push(translated(label) + (value === true ? '' : ` ${value}`));
        }
        say(element(`gie_${tab}_advanced`)?.querySelector('.label-wrap'), changed.length ? ': ' + changed.join(', ') : '');
    }

    // -- which fields are shown

    function showFields(tab) {
        for (const [id, condition] of Object.entries(pageOf(tab)?.conditions || {})) {
            const value = valueOf(condition.field);
            if (value === undefined) continue; // this host has no such field: then nothing is hidden
            const field = element(id);
            const hidden = value !== condition.value && valueOf(id) !== condition.unless;
            if (field && field.classList.contains('gie-hidden') !== hidden) field.classList.toggle('gie-hidden', hidden);
        }
    }

    function show(tab) {
        showFields(tab);
        showState(tab);
        showAdvanced(tab);
        showRunning(tab);
        showBoth(tab);
    }

    window.growthInhibitorsChanged = (tab, id, value) => {
        if (element(id)?.classList.contains('gradio-dropdown')) chosen[id] = value;
        setTimeout(() => show(tab), 0); // once gradio has shown the new value
    };

    // -- what the page says of its fields: one button is pressed for all of a part's, see page/current.py

    const WAIT = 200; // ms: not at every letter that is typed
    const LOST = 30000; // ms after which an answer counts as lost
    const parts = {};

    function fieldsOf(part) {
        const state = {since: 0, again: false, timer: 0};
        const ask = () => {
            state.again = state.since > 0 && Date.now() - state.since < LOST;
            if (state.again) return;
            state.since = Date.now();
            element(`gie_${part}_check`)?.click();
        };
        return {
            changed: () => {
                clearTimeout(state.timer);
                state.timer = setTimeout(ask, WAIT);
            },
            checked: () => {
                state.since = 0;
                if (state.again) ask();
            },
        };
    }

    window.growthInhibitorsFields = part => (parts[part] = parts[part] || fieldsOf(part));

    // -- beside the gallery: what runs, and both images, one over the other

    const pageOfTab = (tab, part) => element(`gie_${tab}_${part}`);

    function showRunning(tab) { // what the progress bar says, without its numbers: a screen reader says it once
        const bar = gradioApp().querySelector(`#${tab}_results .progressDiv .progress`)?.textContent || '';
        const running = /^((?:calibrating|reading how present) .*?)(?: \d+%.*)?$/.exec(bar.trim());
        const holder = pageOfTab(tab, 'now')?.querySelector('.prose') || pageOfTab(tab, 'now');
        const text = running ? running[1] : '';
        if (holder && holder.textContent !== text) holder.textContent = text;
        const isRunning = Boolean(gradioApp().querySelector(`#${tab}_results .progressDiv`));
        pageOfTab(tab, 'erased')?.classList.toggle('gie-old', isRunning); // it is of the images before
    }

    const thumbnails = tab => [...gradioApp().querySelectorAll(`#${tab}_gallery .thumbnails .thumbnail-item`)];

    function chosenPicture(tab) { // its place in the gallery; a single image can be without a thumbnail
        return Math.max(0, thumbnails(tab).findIndex(one => one.classList.contains('selected')));
    }

    function picturesOf(tab) { // pairs: where an image is with and without erasure; results: where each picture's image is
        const holder = pageOfTab(tab, 'erased')?.querySelector('[data-pairs]');
        return holder ? {pairs: JSON.parse(holder.dataset.pairs), results: JSON.parse(holder.dataset.results)} : {pairs: [], results: []};
    }

    const isOneShown = tab => Boolean(gradioApp().querySelector(`#${tab}_gallery .preview`));

    function pairOf(tab) {
        const number = chosenPicture(tab);
        return isOneShown(tab) ? picturesOf(tab).pairs.find(both => both.includes(number)) : undefined;
    }

    function isAnswered(tab) { // whether the chosen picture's image is there without erasure already
        const {pairs, results} = picturesOf(tab);
        const result = results[chosenPicture(tab)];
        return isOneShown(tab) && pairs.some(([erased]) => erased === result);
    }

    function chooseErased(tab) { // gradio keeps the chosen place, where the next job has an image without erasure
        const pair = pairOf(tab);
        if (pair && chosenPicture(tab) === pair[1]) thumbnails(tab)[pair[0]]?.click();
    }

    function frameIn(preview) { // the part that the chosen picture fills, in pixels from the preview's corner
        const picture = preview?.querySelector(':scope > button img, :scope > img');
        if (!picture || !picture.naturalWidth) return undefined;
        const outer = preview.getBoundingClientRect(), box = picture.getBoundingClientRect();
        const fits = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
        const width = fits * picture.naturalWidth, height = fits * picture.naturalHeight;
        const left = box.left - outer.left + (box.width - width) / 2, top = box.top - outer.top + (box.height - height) / 2;
        return {left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`};
    }

    function layerOver(preview) {
        let layer = preview.querySelector('.gie-both');
        if (!layer) {
            layer = document.createElement('div');
            layer.className = 'gie-both';
            layer.setAttribute('aria-hidden', 'true'); // the gallery's own pictures are below it
            layer.append(document.createElement('img'), document.createElement('img'));
            preview.appendChild(layer);
        }
        return layer;
    }

    function set(target, values) { // only what is other than before: we are told of every change
        for (const [name, value] of Object.entries(values)) if (target[name] !== value) target[name] = value;
    }

    function showBoth(tab) {
        const gallery = element(`${tab}_gallery`), bar = pageOfTab(tab, 'compare')?.querySelector('.gie-compare');
        if (!gallery || !bar) return;
        const preview = gallery.querySelector('.preview');
        const pair = pairOf(tab), frame = pair && frameIn(preview);
        const sources = (pair || []).map(number => thumbnails(tab)[number]?.querySelector('img')?.src);
        const shown = Boolean(frame && sources.every(Boolean));
        set(bar, {hidden: !shown});
        const button = pageOfTab(tab, 'ask');
        if (button) set(button, {disabled: isAnswered(tab)});
        if (!shown && !preview?.querySelector('.gie-both')) return;
        const layer = layerOver(preview);
        set(layer, {hidden: !shown});
        if (!shown) return;
        const range = bar.querySelector('input');
        if (range.dataset.of !== sources.join(' ')) { // another image: one half of each again
            range.dataset.of = sources.join(' ');
            range.value = 50;
        }
        set(layer.style, frame);
        [...layer.children].forEach((picture, k) => set(picture, {src: sources[k]}));
        const hidden = 100 - Number(range.value);
        layer.style.setProperty('--gie-at', `${range.value}%`);
        set(layer.children[1].style, {clipPath: `inset(0px ${hidden}% 0px 0px)`});
        range.setAttribute('aria-valuetext', translated('without erasure') + ` ${range.value} %`);
    }

    function followGallery(tab) {
        const gallery = element(`${tab}_gallery`), range = pageOfTab(tab, 'compare')?.querySelector('input');
        if (!gallery || !range) return;
        const soon = () => setTimeout(() => showBoth(tab), 0);
        new MutationObserver(soon).observe(
            gallery, {subtree: true, childList: true, attributes: true, attributeFilter: ['class', 'src']});
        new ResizeObserver(soon).observe(gallery);
        gallery.addEventListener('load', soon, true); // a picture's size is known only then
        range.addEventListener('input', () => showBoth(tab));
        let job = '';
        new MutationObserver(() => setTimeout(() => {
            const now = pageOfTab(tab, 'erased').querySelector('[data-job]')?.dataset.job || job;
            if (now !== job) chooseErased(tab); // not where the same job's pictures have changed
            job = now;
        }, 0)).observe(pageOfTab(tab, 'erased'), {subtree: true, childList: true});
        for (const part of ['now', 'erased']) pageOfTab(tab, part)?.setAttribute('aria-live', 'polite');
        const button = pageOfTab(tab, 'ask');
        if (button) button.title = translated('Make the chosen image once more without erasure, from the same seed, and show both');
    }

    window.growthInhibitorsAsk = (tab, values) => { // as the WebUI's own submit functions do
        const id = randomId();
        showSubmitButtons(tab, false);
        requestProgress(id, element(`${tab}_gallery_container`), element(`${tab}_gallery`), () => showSubmitButtons(tab, true));
        return [id, chosenPicture(tab), ...values.slice(2)];
    };

    // -- a training

    let training = false, filled = false;
    const refreshTraining = () => element('gie_train_refresh')?.click();

    function followTraining() {
        const status = element('gie_train_status');
        const runs = !!status?.querySelector('.gie-running');
        if (training && !runs) window.growthInhibitorsFields('train').changed(); // the time is known now, and what is taken
        training = runs;
        const concept = element('gie_train_concept')?.querySelector('textarea');
        if (runs && !filled && concept && !concept.value.trim()) element('gie_train_fill')?.click(); // another page began it
        filled = filled || runs;
        status?.setAttribute('aria-live', runs ? 'off' : 'polite'); // not every second, but in the end
        if (runs) refreshTraining();
    }

    function addTab() {
        const tab = element('tab_gie_train');
        if (!tab) return; // this WebUI trains no adapters
        for (const part of ['what', 'how', 'go']) {
            element(`gie_train_step_${part}`)?.setAttribute('role', 'group');
            element(`gie_train_step_${part}`)?.setAttribute('aria-labelledby', `gie_train_title_${part}`);
        }
        for (const part of ['what', 'how', 'estimate']) element(`gie_train_${part}`)?.setAttribute('aria-live', 'polite');
        for (const input of tab.querySelectorAll('input[type="number"]')) { // gradio labels the range
            const label = input.closest('[id^="gie_train_"]')?.querySelector('[data-testid="block-info"]')?.textContent;
            if (label) input.setAttribute('aria-label', label);
        }
        addLabels('train');
        const inner = element('gie_train_advanced')?.querySelector('.label-wrap');
        if (inner) {
            makeButton(inner, inner);
            rememberOpen(inner, 'gie-train-advanced');
        }
        // the loaded model may be another one than when the page was built
        const opened = () => element('gie_train_opened')?.click();
        new IntersectionObserver(seen => seen.some(one => one.isIntersecting) && opened()).observe(tab);
    }

    onUiLoaded(() => {
        for (const tab of tabs) {
            addHelp(tab);
            addButtons(tab);
            followGallery(tab);
            show(tab);
        }
        addTab();
        [1000, 3000, 9000].forEach(later => setTimeout(refreshTraining, later)); // one may run that another page started
        setInterval(followTraining, 1000);
    });
    const showAll = () => tabs.forEach(show);
    onAfterUiUpdate(showAll);
    document.addEventListener('input', showAll);
    document.addEventListener('change', showAll);
})();
