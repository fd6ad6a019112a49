// How likely characters are in a language, as costs: the negative natural logarithm of a rough probability. Just enough
// to tell which code page a short text was saved in; not a language model.

export interface Language {
  /** The cost of `char`, given the one before it ("" at the beginning). */
  cost(char: string, before: string): number;
  /** What nobody writes in it; each find costs `WRONG_COST`. Global. */
  wrong?: RegExp;
  /** Words that hardly any text is without; each find costs `WORD_COST`, which is negative. Global. */
  words?: RegExp;
  /** The most that its characters beyond ASCII cost on average: above it, the text is nothing a person wrote. */
  most: number;
}

export const WRONG_COST = 8;
export const WORD_COST = -2;
/** A character that the language does not have: one of tens of thousands. */
const FOREIGN_COST = 14;

const isAscii = (char: string): boolean => char < "\x80";
const isSpace = (char: string): boolean => char === "" || /\s/u.test(char);

const asciiCosts = Array.from({ length: 128 }, (_, code) => {
  const char = String.fromCharCode(code);
  if (/[a-z]/.test(char)) return 3;
  if (/[ \n]/.test(char)) return 2.5;
  return /[A-Z0-9.,'"!?:;()-]/.test(char) ? 4 : 7;
});

const asciiCost = (char: string): number => asciiCosts[char.charCodeAt(0)]!;

/** The signs that all of Europe's code pages have, and what must stand before each. */
function signCost(char: string, before: string): number {
  const opening = isSpace(before) || /["'([{]/.test(before);
  if ("‘„‚«¿¡‹".includes(char)) return opening ? 5 : 11;
  if ("”’»›™®°".includes(char)) return opening && char !== "»" ? 9 : 5;
  if ("“…".includes(char)) return 5;
  if ("–—€£©§·•×\u00a0".includes(char)) return /\p{L}/u.test(before) ? 10 : 6;
  return FOREIGN_COST;
}

const finder = (...patterns: RegExp[]): RegExp => new RegExp(patterns.map(({ source }) => source).join("|"), "giu");
const finderOf = (words: string): RegExp => new RegExp(`(?<!\\p{L})(?:${words.replaceAll(" ", "|")})(?!\\p{L})`, "giu");

/** A language in Latin letters: `letters` are those beyond ASCII, the more frequent first. */
function latin(letters: string, words: string, ...wrong: RegExp[]): Language {
  const lower = [...letters];
  return {
    cost(char, before) {
      if (isAscii(char)) return asciiCost(char);
      const small = char.toLowerCase();
      const rank = lower.indexOf(small);
      if (rank < 0) return signCost(char, before);
      // A capital inside a word, or a letter among signs, is the work of another code page.
      const capital = small === char ? 0 : /\p{Ll}/u.test(before) ? 8 : 1;
      const lonely = isSpace(before) || /[\p{L}'’"“«(¿¡-]/u.test(before) ? 0 : 3;
      return 3 + rank * 0.25 + capital + lonely;
    },
    words: finderOf(words),
    most: 6,
    wrong: finder(/[©®™§£€](?=\p{L})/u, ...wrong),
  };
}

/** A language in an alphabet of its own: `letters` in small, the more frequent first. */
function alphabet(letters: string, words: string, ...wrong: RegExp[]): Language {
  const lower = [...letters];
  return {
    cost(char, before) {
      if (isAscii(char)) return asciiCost(char);
      const small = char.toLowerCase();
      const rank = lower.indexOf(small);
      if (rank < 0) return signCost(char, before);
      const capital = small === char ? 0 : /\p{Ll}/u.test(before) ? 8 : /\p{Lu}/u.test(before) ? 2 : 1.5;
      return 2.2 + (4.5 * rank) / lower.length + capital;
    },
    words: finderOf(words),
    most: 6,
    // Letters of two alphabets in one word.
    wrong: finder(/[a-z](?=(?!\p{Script=Latin})\p{L})|(?!\p{Script=Latin})\p{L}(?=[a-z])/u, ...wrong),
  };
}

interface Ideographs {
  /** Characters that share a probability, the more frequent groups first. */
  groups: readonly (readonly [characters: string, probability: number])[];
  /** The characters that an encoding puts first, for being in use, by their bytes. */
  usual: { encoding: string; lead: readonly [number, number]; trail: readonly [number, number]; cost: number };
  /** Of all other characters. */
  others: readonly (readonly [range: RegExp, cost: number])[];
  wrong: readonly RegExp[];
}

function ideographs({ groups, usual, others, wrong }: Ideographs): Language {
  const costs = new Map<string, number>();
  for (const [characters, probability] of groups)
    for (const char of characters) if (!costs.has(char)) costs.set(char, -Math.log(probability / characters.length));
  let known: ReadonlySet<string> | undefined;
  return {
    cost(char) {
      if (isAscii(char)) return asciiCost(char);
      const named = costs.get(char);
      if (named !== undefined) return named;
      known ??= charactersOf(usual.encoding, usual.lead, usual.trail);
      return known.has(char) ? usual.cost : (others.find(([range]) => range.test(char))?.[1] ?? FOREIGN_COST);
    },
    most: 10.5,
    wrong: finder(swallowed, ...wrong),
  };
}

/** The characters of two bytes within these bounds. */
function charactersOf(
  encoding: string,
  [firstLead, lastLead]: readonly [number, number],
  [firstTrail, lastTrail]: readonly [number, number],
): ReadonlySet<string> {
  const decoder = new TextDecoder(encoding);
  const found = new Set<string>();
  for (let lead = firstLead; lead <= lastLead; lead++)
    for (let trail = firstTrail; trail <= lastTrail; trail++)
      for (const char of decoder.decode(Uint8Array.of(lead, trail))) if (!isAscii(char)) found.add(char);
  return found;
}

const cjkSigns = "，。、：；！？“”（）《》「」『』—…・　";
const han = /\p{Script=Han}/u;
const fullWidth = /[\uff01-\uff5e]/u;
const ideograph = "[\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Hangul}]";
/** A character that stands inside a Latin word took one of its letters. */
const swallowed = new RegExp(`(?<=[a-z])${ideograph}(?=[a-z])`, "u");
/** Chinese and Japanese words are not parted by spaces. */
const spaced = /\p{Script=Han} (?=\p{Script=Han})/u;

// The most frequent characters in groups of a hundred, three and four hundred, by the word counts of jieba 0.42.1 (MIT)
// and with words of film descriptions; below it the traditional forms of those that have one.
const simplified = [
  "的一是人了不在有大中国和为这上他个地年来我会以到时要出的生学说道民家子也成行下们于后就发自之对得主长可过天作分方用多你着部能市等业全里工公经本都而高政法面门动日进区事代那去心小同北定开产前其军还然起种所",
  "如现理机体表力好外与文当两实重新三么只山水关明从化平建又制南内西没此将员名手最东头者月间无安看见各城十相但已些正口通想度加第她合院物性战由位常点海意场武使次二向治因立数样身情入原问把路被并利石老教万知级量任江及应省资委务元美特期世湖回系比气汉总展电科金先声提品设或义王社很统处四首共马形己儿司太目基领队直计别女权话少流命至报米给打变果书清活几州华解议更称程今决张导术府才保交放管结师便走达族反再题色五京河接条规式县白它改风光运信受什组听布百济党指论强做取技黄神选记斯真却职号界件花类何眼兵传带空干农边据集联古广完质阳难增历史专官每住商即步认车台林必死游举线言皇土团收考求德叫近备研争非具李众连调感转笑红绿蓝穿衣服镜画面站坐跳舞猫狗鸟树街雨雪夜灯桌椅窗男孩",
  "革该持始英克士尔让拉思根格造较际亲单朝型价校约器字段周亚深候则功属积快图火千准究往极育装许参半令吃观鱼精办像帝八复影告远群包整构料随划算象容示投势热值夫网望源息语股铁断派速怎需片爱律纪支早况病境证编越局推满且列觉双未居除乐企引标确织初青志率项飞球节察龙响药施均消客失轻存低甚般击曾防请离落显罗营足素视护副食创余照兴占巴虽洲村费易试星木黑左宝置跟央识维采六底宫房音环案批切斗富乡另倒若按查故突责严桥模仅胜杀围席态破承招杨负层须父供续状域似依银范修找九致密终血旅钱赛独细效玉冲获习医演毛尽脸弹楼艺航陆右协七攻镇检写苏宗章注阿抗弟验封紧劳户优财养适陈喜卫排射哥油刻留急降念云微伤例景拿绝阶座刘刚害印亿沙母酒助闻超审待压升送监策略限竟香配藏敌呢差仍兰温园征善波哪词岛止预怕继皮执味份角草普答益谁船惊核夏宣掌田久著辑奇尼剑吧谈背免礼材愿洋春架筑括晚乱乎讲尚良友临激刀室既敢邦挥昌板胡欧福港叶橙紫灰粉裙帽鞋慢摇移拍摄糊晰柔傍昏晨雾滩浪漠森瓣樱桃杯咖啡碗厨餐飘跑奔骑抱握哭睛嘴唇肤短卷披肩戴漫插雕霓虹摩屋顶梯廊",
] as const;
const traditional = [
  "國為這個來會時學說們於後發對長過著業裡經門動進區開產軍還種",
  "現機體與當兩實麼關從內沒將員東頭間無見戰點場數樣問並萬級應資務氣漢總電聲設義統處馬兒領隊計別權話報給變書幾華議稱決張導術結師達題條規縣風運組聽濟黨論強黃選記卻職號類傳帶幹農邊據聯廣質陽難歷專認車臺遊舉線團備爭眾連調轉紅綠藍鏡畫貓鳥樹燈",
  "該爾讓較際親單價約亞則屬積圖準極裝許參觀魚辦復遠構隨劃勢熱網語鐵斷愛紀況證編滿覺雙樂標確織項飛節龍響藥輕擊請離顯羅營視護創餘興佔雖費試寶識維採宮環鬥鄉責嚴橋僅勝殺圍態楊負層須續狀銀範終錢賽獨細衝獲習醫盡臉彈樓藝陸協鎮檢寫蘇驗緊勞戶優財養適陳衛雲傷絕階劉剛億聞審壓監敵蘭溫園徵詞島預繼執誰驚輯劍談禮願築亂講臨揮歐葉搖攝霧灘櫻廚飄騎膚頂",
] as const;
const hiragana =
  "のにはをたがてしとでなりいるかられこあまもきすくっだつせさおよどうめけえわみそばやじちひほねふろごべぶゆびぎげむぐずぜぬぼへざぞづぱゃゅょぁぇぃんぷぴぺぽ";
const katakana =
  "ーンスルトリアイラクシカタレロマドジフテグサコュッキオムバニプセウハデメパチノワナツェモミィエネボベビポヤソピズケホガゴヘゼョャァギダザブペォヒユヌゾヨゲヴ";
const kanji =
  "日一国人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木食車何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体田主題意不作用度強公持野以思家世多正安院心界教文元重近考画海売知道集別物使品計死特私始朝運終台広住無真有口少町料工建空急止送切転研足究楽起着店病質待試族銀早映親験英医仕去味写字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走秋夏習駅洋旅服夕借曜飲肉貸堂鳥飯勉冬昼茶弟牛魚兄犬妹姉漢猫髪顔";
const syllables = [
  "이다는에의가을를은고지하기사도로한리인시어자서대나해그아스있정일전수라제부보들구장상관원게면적과여주성동소만유용개교중무비진안공으국경미트와조선세식신연방화물산오모내것생위치행말였했된할습니까며네요거",
  "우회데체발려력금분계바드르문실학본러간작재복노호반람저현건통음입양또때길속색남녀명빨란파검흰큰강걷앉달머얼굴옷눈손춤카메배밤집마레토크피프랑브코타터임직업번예약결민표당심름같없않많좋새운든른쪽걸쓰던처럼및더욱각종등급울풀꽃빛천히느린빠움애션늘태별빙벚잔디숲창책컵커차탁테블촬영클즈웃춘튼짝품담긴늦쥐감싸둘섰섬젖춰친켜깊낮높넓좁짧앞뒤옆래멀",
] as const;

const chinese = [
  [simplified[0], 0.36],
  [simplified[1], 0.3],
  [cjkSigns, 0.1],
  [simplified[2], 0.16],
] as const;

const hard = "бвгджзклмнпрстфхцчшщ";

/** By ISO 639 codes; `zh-Hans` and `zh-Hant` are Chinese in simplified and in traditional characters. */
export const languages = {
  // English first: words of others in it, and typographic signs.
  en: latin(
    "éïüñöäçèêáóàôâ",
    "the a of in on with and is at to from by",
    /ï(?=[aou])/u,
    /ñ(?![aeiouáéíóú])/u,
    /ç(?![aouáãõ])/u,
  ),
  fr: latin(
    "éèàêçùôîûâëïœüÿæ",
    "le la les un une des du de et dans sur avec est à au très qui en",
    /[àù](?=[a-z])/u,
    /[èê](?!\p{L})/u,
    /ç(?![aouâôû])/u,
    /ï(?=[aou])/u,
  ),
  de: latin("üäößé", "der die das ein eine einen und mit im in auf ist von den dem"),
  es: latin("óíáéñúü", "el la los las un una de en con y que del por se", /ñ(?![aeiouáéíóú])/u),
  pt: latin(
    "ãçáéíóõêâúàô",
    "o a os as um uma de em com e que da do na no",
    /ã(?![oes]|(?!\p{L}))/u,
    /ç(?![aouáãõ])/u,
    /õ(?!e)/u,
  ),
  it: latin("èàùìòé", "il la lo gli un una di in con e che del della è si", /[àèìòù](?=\p{L})/u),
  nordic: latin("äöåøæéü", "en ett et och og på med i det som av den til"),
  is: latin("áíæóúöéýðþ", "og á í að er með", /[ýþ](?!\p{L})/u, /(?<=\p{L})þ/u),
  tr: latin("ıişğüöçâ", "ve bir ile da de bu için", /ğ(?=[bcçdfghjkmnprsştvyz]{2})/u, /(?<!\p{L})ğ/u),
  pl: latin("łąężśćóńź", "w z na i się do nie jest przez po w", /[ńćś](?=[aeiouyąęó])/u, /ł(?=i)/u),
  cs: latin(
    "íáéěřšžýčůúťďňóľôäŕĺ",
    "a v na se je s do k za po",
    /ů(?=\p{L}ů)/u,
    /[ěřů]\p{L}*[ľôäŕĺ]|[ľôäŕĺ]\p{L}*[ěřů]/u,
  ),
  hu: latin("áéöóőüíúű", "a az egy és van meg nem egy"),
  ro: latin("ăîşâţ", "şi în cu de la pe o un din", /ţ(?=(?![aeiuăâî])\p{L})/u),
  hr: latin("čšžćđ", "i u na je se s za do"),
  lt: latin("ėšųžįčąūę", "ir su ant yra į"),
  lv: latin("āīēšūņļģķžč", "un ar uz ir no"),
  ru: alphabet(
    "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфёіїєґўјљњћџђѓќѕъ",
    "и в на с по у не он она как из за",
    new RegExp(
      `[аеёиоуыэюя][ьъ]|[${hard}]й|(?<!\\p{L})[ьъы]|[${hard}йь]{4}|[${hard}]э|[йьъ][ьъыйэ]|(?<!\\p{L})[${hard}]{3,}(?!\\p{L})`,
      "u",
    ),
  ),
  el: alphabet(
    "αοιετσνηυρπκμλςωάήίόέύώδγχθφβξζψϊϋ",
    "και το τα η ο οι σε με του της των τον την στο στη μια ένα ένας από για",
    /ς(?=\p{L})/u,
    /σ(?!\p{L})/u,
  ),
  he: alphabet("יוהלאתרבםמשנעדחקפסגטזכצןךףץ", "על את של עם הוא היא", /[םןךףץ](?=\p{L})/u, /[מנכפצ](?!\p{L})/u),
  ar: alphabet("ايلتنرمبوهةعسدفكحقأجشطصخىذزثإضءغئظؤآپچژگک،؟", "في من على إلى مع و", /[ةى](?=\p{L})/u),
  th: alphabet(
    "านรอกเงมยลวดทสต\u0e31\u0e35\u0e48\u0e49ปหบคแจพะ\u0e34\u0e38ชขใ\u0e39\u0e37ไโผถณธ\u0e4cซญศภ\u0e33ษ\u0e47ฐฟฝฉ\u0e36ฤฏฎฆๆ",
    "ที่ และ ใน ของ",
    // Marks sit on consonants, and words begin with none.
    /(?<![ก-ฮ\u0e31\u0e34-\u0e39])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]/u,
    /[เแโใไ](?![ก-ฮ])/u,
    /(?<![ก-ฮ\u0e48-\u0e4c])[ะาำ]/u,
  ),
  "zh-Hans": ideographs({
    groups: chinese,
    usual: { encoding: "gbk", lead: [0xb0, 0xd7], trail: [0xa1, 0xfe], cost: 10 },
    others: [
      [han, 13],
      [fullWidth, 8],
    ],
    wrong: [spaced],
  }),
  "zh-Hant": ideographs({
    groups: [...chinese, [traditional[0], 0.12], [traditional[1], 0.1], [traditional[2], 0.05]],
    usual: { encoding: "big5", lead: [0xa4, 0xc6], trail: [0x40, 0xfe], cost: 10.3 },
    others: [
      [han, 13],
      [fullWidth, 8],
    ],
    wrong: [spaced],
  }),
  ja: ideographs({
    groups: [
      [hiragana, 0.5],
      [katakana, 0.14],
      [kanji, 0.15],
      [cjkSigns, 0.07],
    ],
    usual: { encoding: "shift_jis", lead: [0x88, 0x98], trail: [0x40, 0xfc], cost: 9.8 },
    others: [
      [han, 13],
      [fullWidth, 8],
      // Of half the width.
      [/[\uff61-\uff9f]/u, 9],
    ],
    wrong: [spaced, /[\uff61-\uff9f](?=[a-z])|[a-z](?=[\uff61-\uff9f])/u],
  }),
  ko: ideographs({
    groups: [
      [syllables[0], 0.55],
      [syllables[1], 0.3],
      ["，。、·…“”‘’", 0.01],
    ],
    usual: { encoding: "euc-kr", lead: [0xb0, 0xc8], trail: [0xa1, 0xfe], cost: 10 },
    others: [[han, 13.5]],
    // Nobody writes longer words than this, nor puts Chinese characters inside.
    wrong: [/\p{Script=Hangul}{9}|\p{Script=Hangul}(?=\p{Script=Han})|\p{Script=Han}(?=\p{Script=Hangul})/u],
  }),
} as const satisfies Record<string, Language>;

export type LanguageName = keyof typeof languages;
