// Self-contained HTML pages: one shell, one look, escaping. Reports of every stage are built with it; no content here.

/** Text that is already HTML; everything else is escaped by `html`. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => entities[sign]!);
}

type Part = string | number | Html | undefined | readonly Part[];

function render(part: Part): string {
  if (part === undefined) return "";
  if (part instanceof Html) return part.text;
  if (typeof part === "string" || typeof part === "number") return escapeHtml(String(part));
  return part.map(render).join("");
}

/** A template whose values are escaped, but for those that are Html; lists are joined, undefined is nothing. */
export function html(strings: TemplateStringsArray, ...values: Part[]): Html {
  return new Html(strings.reduce((text, string, i) => text + string + render(values[i]), ""));
}

/** A column of `table`: numbers are set flush right. */
export interface Column {
  title: string;
  numeric?: boolean;
}

/** A table that sorts at a click on a heading and, with `filter`, narrows by what is typed above it. */
export function table(columns: readonly Column[], rows: readonly (readonly Part[])[], { filter = false } = {}): Html {
  const heads = columns.map(
    ({ title, numeric }) => html`<th${numeric ? new Html(' class="n"') : undefined}>${title}</th>`,
  );
  const body = rows.map((cells) => {
    const row = cells.map(
      (cell, i) => html`<td${columns[i]?.numeric ? new Html(' class="n"') : undefined}>${cell}</td>`,
    );
    return html`<tr>${row}</tr>\n`;
  });
  const input = filter
    ? html`<input class="filter" type="search" placeholder="filter ${rows.length} rows" aria-label="filter">`
    : undefined;
  return html`${input}<div class="wide"><table class="sorts"><thead><tr>${heads}</tr></thead><tbody>${body}</tbody></table></div>`;
}

const style = `
:root{color-scheme:light dark;--ink:#1d2329;--soft:#5d6873;--line:#d9dee3;--paper:#fff;--tint:#f4f6f8;--mark:#2563a8;--bad:#b3372b;--warn:#96660b;--good:#2d7a46}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa6b2;--line:#343c44;--paper:#15191d;--tint:#1e242a;--mark:#7db4ee;--bad:#f08a7e;--warn:#e0b252;--good:#7cc796}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Roboto,sans-serif}
main{max-width:76rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.25rem 0 .6rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.4rem 0}.soft{color:var(--soft)}code,.mono{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.2rem 0}
.tile{background:var(--tint);border-radius:.5rem;padding:.6rem 1rem;min-width:7.5rem}.tile b{display:block;font-size:1.45rem;font-weight:600;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;white-space:nowrap;cursor:pointer}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.filter{font:inherit;width:100%;max-width:24rem;padding:.3rem .6rem;margin:.2rem 0 .5rem;border:1px solid var(--line);border-radius:.4rem;background:var(--paper);color:inherit}
.bad{color:var(--bad)}.warn{color:var(--warn)}.good{color:var(--good)}
ul.findings{list-style:none;margin:0;padding:0}ul.findings li{border-left:3px solid var(--warn);padding:.15rem 0 .15rem .8rem;margin:.7rem 0}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--mark)}
`;

const script = `
for(const table of document.querySelectorAll("table.sorts")){
  const body=table.tBodies[0];
  table.tHead.addEventListener("click",e=>{
    const th=e.target.closest("th");if(!th)return;
    const i=th.cellIndex,up=th.dataset.up!=="1";th.dataset.up=up?"1":"0";
    const key=r=>r.cells[i].textContent;
    const order=new Intl.Collator(undefined,{numeric:true});
    [...body.rows].sort((a,b)=>(up?1:-1)*order.compare(key(a),key(b))).forEach(r=>body.append(r));
  });
  const input=table.parentElement.previousElementSibling;
  if(input&&input.classList.contains("filter"))input.addEventListener("input",()=>{
    const words=input.value.toLowerCase().split(/\\s+/);
    for(const r of body.rows){const t=r.textContent.toLowerCase();r.hidden=!words.every(w=>t.includes(w))}
  });
}
`;

/** A whole page: nothing is loaded from anywhere, so it opens from disk. `more`: style of its own. */
export function page(title: string, body: Html, more = ""): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${new Html(style + more)}</style>
</head>
<body><main>
${body}
</main>
<script>${new Html(script)}</script>
</body>
</html>
`.text;
}
