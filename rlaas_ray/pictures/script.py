"""The script of a search's report: points found under the pointer in every picture at once, the box of three objectives turned.

Read by the report; without it every picture and every table is there all the same. Loads nothing.
"""

SCRIPT = """
(()=>{const told=document.querySelector('output'),rows=[...document.querySelectorAll('tr[data-i]')];
const names=[...document.querySelectorAll('#points thead th')].slice(1).map(h=>h.textContent);
let pinned=null;
function show(i){document.querySelectorAll('.on').forEach(e=>e.classList.remove('on'));
 if(i===null){told.textContent=told.dataset.idle;return}
 document.querySelectorAll(`svg [data-i="${i}"]`).forEach(e=>{e.classList.add('on');e.parentNode.append(e)});
 const row=rows.find(r=>r.dataset.i===i);
 if(row)told.textContent='point '+i+': '+[...row.cells].slice(1).map((c,k)=>names[k]+' '+c.textContent).join(', ')}
function at(svg,e){const p=svg.createSVGPoint();p.x=e.clientX;p.y=e.clientY;
 return p.matrixTransform(svg.getScreenCTM().inverse())}
function near(svg,p){let best=12,found=null;
 for(const c of svg.querySelectorAll('circle[data-i]')){const d=Math.hypot(c.getAttribute('cx')-p.x,c.getAttribute('cy')-p.y);
  if(d<best){best=d;found=c.dataset.i}}
 for(const w of svg.querySelectorAll('path.way')){
  const q=w.knots||(w.knots=w.getAttribute('d').slice(1).split('L').map(s=>s.split(' ').map(Number)));
  for(let k=1;k<q.length;k++)if(q[k-1][0]<=p.x&&p.x<=q[k][0]){
   const t=(p.x-q[k-1][0])/(q[k][0]-q[k-1][0]),d=Math.abs(q[k-1][1]+t*(q[k][1]-q[k-1][1])-p.y);
   if(d<best){best=d;found=w.dataset.i}}}
 return found}
for(const svg of document.querySelectorAll('svg')){if(!svg.querySelector('[data-i]'))continue;
 svg.addEventListener('pointermove',e=>{if(pinned===null&&!e.buttons)show(near(svg,at(svg,e)))});
 svg.addEventListener('click',e=>{const i=near(svg,at(svg,e));pinned=i===pinned?null:i;show(i)});
 svg.addEventListener('pointerleave',()=>{if(pinned===null)show(null)})}
for(const row of rows)row.addEventListener('click',()=>{pinned=row.dataset.i;show(pinned)});
document.addEventListener('keydown',e=>{if(e.key==='Escape'){pinned=null;show(null)}});
for(const svg of document.querySelectorAll('svg[data-turn]')){
 const [cx,cy]=svg.dataset.centre.split(',').map(Number),scale=+svg.dataset.scale,num=s=>s.split(',').map(Number);
 let turn=+svg.dataset.turn,tilt=+svg.dataset.tilt,from=null;
 const seen=p=>{const a=turn*Math.PI/180,e=tilt*Math.PI/180,[x,y,z]=p.map(v=>v-.5);
  const away=x*Math.sin(a)+y*Math.cos(a);
  return [cx+scale*(x*Math.cos(a)-y*Math.sin(a)),cy-scale*(z*Math.cos(e)+away*Math.sin(e)),away*Math.cos(e)-z*Math.sin(e)]};
 function draw(){
  const dots=[...svg.querySelectorAll('circle[data-p]')].map(c=>[c,seen(num(c.dataset.p))]).sort((a,b)=>b[1][2]-a[1][2]);
  for(const [c,[x,y,d]] of dots){const n=.5-d/1.8;c.setAttribute('cx',x);c.setAttribute('cy',y);
   c.setAttribute('r',1.8+1.8*n);c.setAttribute('opacity',.35+.55*n);c.parentNode.append(c)}
  for(const t of svg.querySelectorAll('text[data-p]')){const [x,y]=seen(num(t.dataset.p)),[dx,dy]=num(t.dataset.off);
   t.setAttribute('x',x+dx);t.setAttribute('y',y+dy)}
  for(const l of svg.querySelectorAll('path[data-a]')){const [a,b]=seen(num(l.dataset.a)),[c,d]=seen(num(l.dataset.b));
   l.setAttribute('d',`M${a} ${b}L${c} ${d}`)}
  for(const g of svg.querySelectorAll('g[data-at]')){const [x,y]=seen(num(g.dataset.at));
   g.setAttribute('transform',`translate(${x-g.dataset.x} ${y-g.dataset.y})`)}}
 const by=(a,b)=>{turn=Math.min(80,Math.max(10,turn+a));tilt=Math.min(70,Math.max(8,tilt+b));draw()};
 svg.tabIndex=0;svg.style.touchAction='none';svg.style.cursor='grab';
 svg.addEventListener('pointerdown',e=>{from=[e.clientX,e.clientY];svg.setPointerCapture(e.pointerId)});
 svg.addEventListener('pointermove',e=>{if(!from)return;by((from[0]-e.clientX)/4,(e.clientY-from[1])/4);from=[e.clientX,e.clientY]});
 svg.addEventListener('pointerup',()=>{from=null});
 svg.addEventListener('keydown',e=>{const k={ArrowLeft:[4,0],ArrowRight:[-4,0],ArrowUp:[0,-4],ArrowDown:[0,4]}[e.key];
  if(k){e.preventDefault();by(...k)}})}
})();
"""
