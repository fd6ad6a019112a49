// The codebooks of GGML's IQ blocks: numbers of the file format, found by its authors by search, so that they can only be
// listed (https://github.com/ggml-org/llama.cpp/blob/150f157/ggml/src/ggml-common.h). Each entry is eight or four codes,
// the first in the lowest bits; deflated, base64.
import { inflateSync } from "node:zlib";

/** Reads a codebook the first time it is asked for. */
function codebook(values: readonly number[], bits: 2 | 4, packed: string): () => Float32Array {
  let grid: Float32Array | undefined;
  return () => {
    if (grid) return grid;
    const bytes = inflateSync(Buffer.from(packed, "base64"));
    const each = 8 / bits;
    const mask = (1 << bits) - 1;
    grid = new Float32Array(bytes.length * each);
    for (let i = 0; i < grid.length; i++)
      grid[i] = values[(bytes[Math.floor(i / each)]! >> (bits * (i % each))) & mask]!;
    return grid;
  };
}

/** 256 × 8. */
export const iq2XxsGrid = codebook(
  [8, 25, 43],
  2,
  [
    "eNoFwcFq4kAYAOB/hn9kzGlGosQ9jRIXt0/xJyQSexqLlWxPiSi4bzEJo3R7isVCe7PFQ/ct9/sAOAiQEICGEAxMYQ53kEAGFkqo",
    "YQcOWniBL2AMmWJDRsyzdwac8ylvOUNEhROMkTDFAits0GOHNwTBhRRGLMQf4cRZ9HuqRz3fu/VACillKOcykZm08kE+S+xTnwdh",
    "wBQqpSaKVKW86tSbAi210VY/aafjQT6AUIYmnIXL0IXRcDuE0WjEIoxURFETwViMr+PVDzDcBCYztXGmNb8mxQSmfMpijFVM8SaG",
    "WTLbzbqfcm7ml3l2xwhJUUQTiomooA1V1JCnjiAxSZ245JiwVKVFukkPKWQyM5nLPrJBHuewYAUWqqAiL2BZLutlu8zvu3uw0mo7",
    "tsY6+2xxla5uq/NDt35dB49ss95AqctxuSvpt3zCSlVUHSqoH+toW21hJ3ZqP9j7fXoAx13gEtc6bKKGGt0yj175oSdfeTgujpdj",
    "/0Sn6sSf8a9+wU51cUfdZzc6u3P+CpfpJbus3pp388Gv9nq89j/hK7rZb/z3HwV8b10=",
  ].join(""),
);

/** 512 × 8. */
export const iq2XsGrid = codebook(
  [8, 25, 43],
  2,
  [
    "eNoFwVFP6jwYAOC3TbsUrtqlmOlVIWCQX9EunRledWYQPFeTyBcPv6Ij00yu0KBRrybxmMmv/J4HAAMFBl0QIOEETkHBAEYwBgMW",
    "LmEKDq5hBgu4hTvwsIEHqOEZ9vABDSBEUIA6iKMQ9VCEzlAfDZFGMUpQijKUowLdoxJVaIcAY0wxwwJLrLDBFjs8wx5vMSKEBKRD",
    "OAlJj0SkT4ZEk5gkJCUZycmcFKQkFdkRoJhSyqigkipqqKWO3lJPUUACHpwHOoiDKgCGGWWMdZlgkik2YoZZ5tiCedawI0Md0uEd",
    "3Sk7Tx3oqu64+9ZtuogTHvAO5zzkPR7xPh9yzWOe8JRnPOcFX/OSV3zHQWBBBRNCSKGEEVY44cVevAkUkjAIeajDIgSJJZVMCiml",
    "kkZaOZVO3kkvUY/0eE/34ESeTE9QRCIehZGO8ugxglN6+t9pdvZ7BgorqpjqKqGkUsooq5zyqlGoT/q8r/tpf9WHwWDgB+0ADcmQ",
    "Dy+GeggjM7oefYzQ+dn5zzmM2bg7VuPZuB4fxvcXuws2UZPNpJ5sJ0gTHeiO5jrUPR3pvh5qrWOd6FRf6UznutArXepK7zQYbKhh",
    "RhhplDHGGme8eTAHg2IS8ziML2Idg8WWWmaFlfbUKmustc56u7coIQlPholOPhO47F7aS3eJUpLyVKdJmqfLFKZiaqdu+ndKrsBh",
    "Rx1zwkmn3NgZZ51z3qGMZDzrZTqLM7i218drlJOc5/1c50Ve5l85zNjMz+pZf34//5rDQi7Mwi0+Fmc3+ia+efiDClLwQhd5sSwe",
    "i98CbofLq+XLEu5O7vhKr5LV9wrdr+9Hf4N1vl6uwWNPPfPCS6/8xBtvvfPeb3zrjx6VpAxKXuoyK29K2KiN32w2zabdoIpUvAqr",
    "XqWronqq4ME+/HuIHtePULN6VP+pfb2p2zp4Gmz9tt6+bdst2pEd3+ndfFft4HnwfPc8f3l6gT3d273bL/YXr7vXl1fzlr3/vE8/",
    "ep/FJzS4YU23Uc2kaZrs6+br5wsO+MAOk4M/NAf9/fq9+nn/6baqHbTjtmnblvxWv4+/4+Pk+Hw8Hv8HtxDu+w==",
  ].join(""),
);

/** 1024 × 8. */
export const iq2SGrid = codebook(
  [8, 25, 43],
  2,
  [
    "eNoFwUFvokwDAOAZMkMGTzNkMLCnwWBj/RUzZCDY02CwsT1ho5vu/gow0FhP2GDjfidr3Dddf+X3PABYAAMCBoABDoYgAAKMwBhM",
    "gAIapGAGDJiDBViCFViDn+AXqMAWtGAHDqAHZ/AX3ACECNrQgRS60IM+DGEEJYxhAjOYwwI+widYwg18hTVsYAc/4BF+wSsElmVh",
    "i1jM4pawppaytJVaM8tYC6uyWmtv9dbFggghGzmIIhd5yEchitAdukcSxShBGXpAOSrQI3pCJXpBG1SjBr2hd9ShIzqhL3RFAFsY",
    "Y4IHmGGOhzjAAo/xBCuscYpn2OA5XuAlXuE1rvAWt3iHD7jHZwxtZNu2Y1Pbs6Wd2Jmd24Vd2rXd2J0NiEUwIYQRToYkIIKMyZQo",
    "oklKZsSQOVmQJVmRNalIS3pyI9BBDnVcx3N8J3SkkziZkzuFUzq10zlgwAZ8MBpMBtOBGfwZQIqoTR1KqUs96tOQRvSOShrThGY0",
    "pwV9pE+0pC90Q19pTRv6Rjt6pCf6Ra8UMIthRtiAMcbZkAVMsBEbswlTTLOUzZhhc7ZgS7Zia1axLWvZjh1Yz6CLXMelrueGbuRK",
    "N3Fzt3Brt3E7F3CLY04445wPecAFH/MJV1zzlM+44XO+4Eu+4mte8S1v+Y4feM/PHHrIsz3Ho57reZ7vhV7kSS/2Ei/zcq/wSq/2",
    "Gq/zwBAPyZAN+VAM1VAPzbAa3obQR77tOz71Pd/3Q1/6sZ/4mZ/7hV/6td/4ILACHJCABTwQgQp0YIJfwSVAP+gP+ePxBxCWwIII",
    "JrgYikAIMRZToYQWRszFQqxFJfaiFzcBQxTS0A29MAxlGIdJmIdFWIZ12IRdCEaD0Wg0GU1HemRGu9F+9D2CEYrsyIlo5EV+FEZR",
    "JKM4SqIsyqMiKqM6aqIuAmM8JmM25mMxVmM9NuOf42oM79AdvZN3T3dggidswidqoidmsp/cJvAe3dP74/1gOpqup7vpfgolkrZ0",
    "JJWu9KQvf8hQRvJOShnLRGbyQeaykI/ySZbyRW5kLRvZyaM8yS95lUBZCiuimOJqqAIl1EiNlVJapWqmjJqrhVqqlVqrSm1Vq3bq",
    "oHp1VjBGMY3d2Iv9OIplnMRZnMdFXMZ13MRAWxprogeaaa6HOtBCj/RYT7TSWqd6po2e64Ve6pVe60pvdat3+qB7fdYwQYmdOAlN",
    "3MRL/CRMokQmcZIkWZInRVImv5M6aZIuAamV4pSkLOWpSFWqU5NW6d8UZihzMpq5mZf5WZhFmcziLMmyLM+KrMyarMvAzJrhGZmx",
    "GZ+JmZrpmZlVs88ZfEAP9EE+AGMZbIhhhpuhCYwwIzM2E6OMNqmZGWPmZmGWZmXWpjJb05qdOZjewBzldu7kNHdzL/fzMI9ymcd5",
    "kmd5nhd5mdd5k3c5mOM5mbM5n4u5muu5mf+aV3NYoMIunIIWbuEVfhEWUSGLuEiKrMiLoiiLumiKrgALa4EXZMEWfCEWaqEXZlEt",
    "4CN6pI93j/IRLK0lXpIlW/KlWKqlXprl87Jawif0RJ/kE3gOntvn72dYotIuaemWXumXYRmVskzKrMzLoizLpuxKsLJWeEVWbMVX",
    "YqVWemVW1erPCr3QF/ny+PL1AtZ4TdZszddirdZ6bdbVGm7Qhm7k5mHzuvnYgJ/9T/iKXunr5vX0Cn5Nf8W/v36DyqpwRSpW8Sqo",
    "RDWuVKUrU82rRbWsVlVVtdWh6itYo9qpae3WXu3XYR3Vso7rpM7qvC7qum7qrv5Xgy3eDrZsy7dqq7dmCxvU2I3T0MZtvMZvwkY2",
    "cZM0WZM3RVM2ddM0XQNaq8UtaVnLW9GqVremrdp9C9/QG327f5NvYId3bMd3aqd3ZnfZwXf0Lt8376P9cv+83+4ve9ihzulo53Ze",
    "53dRJ7u4S7qsy7uiK7u6a7quAwd8YAd+UAd9MIfnA/xAH/RDfvz3AXqrxz3pWc970ate96av+s8eHtGRHuXxdPw6gs/0c/0JT+hE",
    "T3cnefp3An9mf+Z/uv+BMz4Pzvw8Ok/P6qzP5nw5387ya/NlXQaX0WVymV62l91lf/m+wCu60qu8vl+vV/A3+Jv/N/iefF++i39v",
    "/8htcBO30W1y291ut/8Dvmbuvw==",
  ].join(""),
);

/** 256 × 4. */
export const iq3XxsGrid = codebook(
  [4, 12, 20, 28, 36, 44, 52, 62],
  4,
  [
    "eNoNzrmCqjAUANAsIO0loLZJAGkTEGkRQVpAHVsctzaCzPe/d77gIESQhVzkoTXiSCKNSjShGWFMMWCGBY6wwgne4zM2GBFCLOIS",
    "TiTRJCU56ciVzARThwJlNKKGelZuVdbVmqzZwrZjJ3ZvZ4vHAhzfWTkH5+ZgoADAQEAAChLYQgMtIJe4rstd6WJGGTDGBFNsZMgj",
    "Hve0d/ReHvZtv/X5Mlwel5+lvZLr4n+bcJd7nHPJN1zzkmNBhS1AMCGEEnfxFkYgSaQr15JLKXNZyIvEAQR+YIJvkIWnkEZxtI++",
    "EY5pvIrrGCtQTAkVqFY91aiQJpprrSt91DihCSRR0idj4qZpqrbNdtyibJHJ7JL5u93uvkvzIbeKdZEVeXEqrsV3z8u8LMqhfJXO",
    "oT5YVVc9qqg+1Ka2G2hYoxrW7lvTom7RbbpL5/dJP/bkdDrBOTjH5/FMLvrS/oTX8hoO1XAcHoO43W7r38evuu/u1cN+9s/0Rd/i",
    "TY1tHAMmMb3ZfIoPG+uxH9G0nNJpmMR3/0UzmcNZ/f0DS/5ZHA==",
  ].join(""),
);

/** 512 × 4. */
export const iq3SGrid = codebook(
  [1, 3, 5, 7, 9, 11, 13, 15],
  4,
  [
    "eNoNkbl2qkAAQGdD2llY2pkBpB02bdmUlkWTFklMWkST9/svP3DPufcCAAECFrABBQxw4AAPSKBABDJQghqcQAcGMIEZLOABXuAf",
    "ABBCBAmkkEEXShjAGCawgC28wTvc/nAQWchGFAnkIYUiZFCOanRCHRrQhFb0RBgz7GKJNU5whg+4xT0e8Td+4B8MiCA+USQkKSlJ",
    "QwayEmQRS1ra2luZVVknq7O+rKe127Gd2CW7cffYARvZxJa2tvd2Zvf25U8IUkQJpZRRQV3qU0k1TWhOD/RC3+iNbn/KkGG2Y5Q5",
    "TDHDMlaxno1sZb9/MTh3uc8lD3nKS97wK5/5xqEgwhZUCKFELIzIRSUWsQrsWA53HCdxMqd2zk7vXBzoUle4yjVu6g6u9EIv9lrv",
    "7EEf+9TnvvILv/IXf/WBhBJLS9qSSi4d6UklAxlLI1NZyUaeZC9H+S1X+ZQ/f4OQokooX2kVqUTlqlaDgppoWysdaKOPutKTftcP",
    "/dIgQIEVsEAHYZAEWVAHffAVwNAOZRiEaViEVbiFPyGJWKSjY1RGU7RGYI/29l7tr/vb3opZvI9N3MR9jAwzwrjGN9okJjOFqU1r",
    "OjOYD/MwMMGJlTiJSoKkTOZkS34TkPJUpmmap30KM5o5mcqCLM5MVmVN1mXX7JnhnOVervMkH/M5/8xhQQteREVatMVb8Sy8Q3WA",
    "R3yUR30sjqAkJS9lGZZxmZZV2ZdriSq7YpWodGWqomqqobpWsMY1rd1a1Vld1u/1Uq81aVgjGtnoJmmKBrSoDdtjW7aP1jrZJ3Va",
    "TuKcn+cz7dzOdE03dKinvdPrvuzbvuvH/qt/9XDAgzXwQQ3psA1gZGMwmvEwTiOa7IlO8dROw3SfnhO8kIu8pJfzhV/31+E6Xes3",
    "9E7e9TubxezOyZzN8wxu8hbfPm98yZd6uS7Lsi7gw/lQH+VH9Nl8Lp/gju/5fb5bX+UX+xbfYCWrvcpVr4e1XC/rsqIHe4SP5nF6",
    "wI1sdPM2tZlt2NAzfRbP6Qlf1ku85Kt/6Z/6B/0mv+Dff5EgseA=",
  ].join(""),
);

/** 2048 × 8. */
export const iq1Grid = codebook(
  [-1, 0, 1],
  2,
  [
    "eNoNl0HKslAAAEsyylWGSrayyKhOkR8q2convoe6ylDJTlGRYa4yfJKtLDKqU/7/CWYzMEytRtTIWqtG1egaWxNqw9qkNqspNVAz",
    "a6jm13a1Qy2uJTVcK2vP2qf2qzXqZJ2uM3Wuztf7dbEu1dW6VjfqsO7U3bpXD+qbelRP61k9r1f1GkEQLYIiWEIghsSEmBEKAQib",
    "8IiQ2BEHIiYSIiUwURAl8SQ+xI+gG0yDa4gNqaE1YMNpeA2/kTaKRvUf3CBJskmyZI/sk1NyTirkktRJQJokJBFpkytyTfrkhtyS",
    "ezIlMXkj7+SDfJEV+Sa/JNPkm1JTbupNowmbVnPVdJtBM2xGzbSZNYtmrUW0Wi2qxbaE1rA1ac1aSgu0UMtv7VqHVtxKWrhVtp6t",
    "T+vXItt0m2nz7VFbbEttvQ3asO22vXbYTttZO28X7apdowiqRVEUSwnUkJpQM0qhAGVTLuVTO+pARVRMJRSmSupJfagf1enQHabD",
    "d0YdsSN15I7egR2r43a8jt8JO2kn6+SdR6fq1OkG3aTbdIfu0izdowf0iJ7SCr2kdRrQBm3SkEa0Ta9onz7SVxrTD/pF012my3XF",
    "7ryrdrWu0YVdq+t0vW7QjbppN+vm3apbZ5pMm2EYlukxPDNgxozEKIzKLJglAxiTgQxibGbN+MyGOTJn5sJkDGZuTMHcmQfzYirm",
    "yxAsyVIszTIsy3IszwrskBXZCTtjJVZmFVZlAWuwJgtZxNqsw7qsx/pswIbsjj2wRzZiYzZhL2zKZixmc7Zg72zJPtmKrXMNjuSa",
    "HMtxXI/rcwNuzM25P07mFG7BLTnAQQ5xFmdzLudxPrfhQm7LnbiEu3KYe3Ffju5xPbEn9eSe2tN6eg/2rJ7TW/XcntcLemEv6qW9",
    "rFf1OnyXZ/k+P+BF/o+XeYVf8IA3ecgj3uYdfsX7/JY/8yl/5TF/4x/8m//y7T7XH/XHfbmv9rW+3jf6sG/13X7QD/tRP+3n/Xu/",
    "JhBCS6AEVhCEoSAKE2EmKAIQbMEVfGEnHIRYSAQslMJTqISP8BPIAT1gBvxAHPwN5IE2gANr4AzcgTfwB8EgGlwG+aAYVIP6sDWk",
    "hvSQHQrD4XAynA2VIRiioT30h/thPEyG6RAPy+Fz+Bn+huSIGXEjfiSO5JEyUkfayBjBkTVyRsEoGqWjbFSMHqPqv96sOBCn4lxU",
    "xIUIRFOEoi2uRV/ciGfxImYiFm/iXXyIL/EtfkVy3Bl3x/xYHEtjbQzHq7E7DsfH8Wl8Gd/HtQkxaU2oCTsRJsPJZDKbKBMwMSf+",
    "ZDc5TOJJMiknz8ln8pu0p/SUmfJTcapOtakxhVN36k2DaTiNppdpPi2mr2k1rc2IWWtGzYTZcDaZzWbKDMzQzJ75s93sMItnyQzP",
    "ytlz9pn9ZuScnnNzca7NjTmcW3Nn7s69eTDP5sX8MX/Pa1JdakhNqS11JVbipJ7UlwbSWJpKirSQlhKQTAlKSLIlR/KljbSV9tJR",
    "OkkX6SphqZQe0lMi/+g/5o/7E/+kP+MP/jl/3l/4d/7L/qq/uszKvDyVFXkhL2UgmzKUkezKa9mXN/JW3ssn+Sxf5KuM5VJ+yF+5",
    "rhAKqVAKrTAKq3AKrwiKqMwUSZEVRVEVTdEVoJgKVJBiKbbiKp7iK4ESKgflqERKrKRKpmAlVwrlrlTKR/kpdZVU2yqjsmpP7asD",
    "daRO1bn6pyrqQtVVoBoqVJFqq2vVVzfqXo3URM1UrD7Ul/pWyQW9YBf9hbj4W2gLfQEX1sJdeItgES6iRbrIFvmiWFSLukZqTY3S",
    "OhqjsVpPG2gjbazNNUVbakAzNFODGtJsbaWtNV8LtK120s7aVcNart20h/bS3tpX45byUl1qS7i0ls7SW4bLbFkt63pDJ/Wm3ta7",
    "Oqv39YE+0qf6XFf0hQ50U4c60m3d1zf6ST/rWL/ppf7Q3/r3fyhaoA0oQAMGsIADPcADAYhgDCZgBiQgAwWoQAM6AMAAJoAAAQvY",
    "wAEu8IAPAhCCA4hACjKAQQ4KUIIK/EDdaBpdgzX6xsAYGX+GYiwNYJgGNJBhG2vDNyLjYlwNbBTG3XgZDZM0aZMxWZMzeyZvDkzR",
    "nJgzUzJlUzFVUzOXpm4C0zShiUzLtE3HdM216Zm+GZihuTNjMzFTMzOxmZuF+TBfZmX+zDokYAOSsAnbsANp2IUMZCEHediHAziC",
    "IhzDKZxDCf5BGSpQhQuoQR0CaEATQoigBW3owBV0oQd9GMANDOEW7uERRvAME3iBKcwghjm8wQI+4AtW8A2/sIbqiEAN1EQt1EY0",
    "YhCLeohHAhqgIRohEY3RBE2RhBSkogXS0BLpCCADmQgihCxkIwe5yEM+CtEBReiEYnRGCUoRRnf0RBV6ow/6ooZFWk2rbXUs1upZ",
    "A2tmKdbCWlrAMi1oIcuybGtlrS3P8q2DdbYu1tXC1s16WF+rbhM2aVM2bTM2a3M2b4u2ZMu2Yqu2Zus2sA3btKGNbMu2bcd2bc/2",
    "7cAO7b0d2Wc7tTMb27l9swu7shtOy2GdviM4ojN2po7iLBzNAQ50kGM5trN2fGfjbJ29kzhXBzu5c3PuzsMhV8yKW/ErcSWv9BVc",
    "oZW1clbuylsFq3C1X+WralV3G27Tbbtdl3UH7tAdu1NXcTUXuNBFru36buBu3aObuFcXuw/37X5des2t+fV8La3VNVyjtbVeraN1",
    "us7X1Zr2uh7rcV7fG3hjb+rNvT9P8Rbe0gOe6UEPebbneCtv7fne0Yu8s3fxrl7mYS/3bt7de3gv7+uRfsunfNpnfc7nfdlXfNXX",
    "fN0HvulDH/m27/qe7/uBH/on/+wnfupjP/cL/+4//cp/+x+fCNoBGwjBOJgE02AeKMEiWAYgMAMYoMAKnGAV+MEm2AWHIAqSIAvy",
    "4BYUQRm8gnfwC7gNvxE30sbYwI2zcTfhJtqkm9vmvamHjbATsuEgHIXjcBrOQylUQjVchCA0Qxii0A5XoR9uw0N4DJMQh4/wFVbh",
    "N6S33La3lbbyVtvqW7i1ts7W2/rbcHvaZtvb9r59b2s7YtfaUTthN9xNdrOdstN3YGfu0M7e+bvd7rCLd8kO78rdc/fZ/Xbknt4z",
    "e27P78W9tJf32l7fG3u4R3trb++9fbAP99H+vM/2+b7YV/vagTi0DtSBPQiH4WFymB3AwTzYB/+wOxwO8SE54EN5eB4+h9+BOfJH",
    "6SgfwREenaN79I7hMTsWx3rUjroRG/WjcTSN5pEUKdEiApEZwQhFduREfhREm2gb7aNjdIrO0SW6Rji6Re+IPnEn/iSepJN80k7L",
    "k36CJ/vknNxTcNqeolN6up9ep1pMxK2YitlYiIfxJJ7FUqzEIDZjO/bjMN7FhziOkxjHZfyMP/EvJs/NM31mztxZPEtn+ayetbN+",
    "Ns7w7Jzds3eOzvm5OFfnWkIkrYRK2ERIhskkmSVKAhIzQckuOSRxkiQ4KZNn8kl+CXmhL9yld+Ev4kW6qBftAi/WxbmEl+0luqSX",
    "7JJfikt1qaeNtJm2007Kpr20nw7SUTpOp+k8VVI9BamZwhSldrpO/fSYntJritNb+khf6Tv9puSVvjJX/ipe5at61a761bjCq3UN",
    "ruE1umbX/Pq91rNG1sw6GZv1snE2z5YZyMwMZiizMjtbZW62zvzsmJ2ya5ZlOLtlj+yb1TCJW5jCHUxjBrOYwzweYBFP8QxLWMYK",
    "VrGGdQywgU0MMcIWtrGDXexhHwc4xHsc4Rin+IozjHGOC3zHJX7iCn/wD9fzRt7J2ZzPhXycT3MlX+RaDnIjhznK7dzPN/khP+bn",
    "PMmveZbj/JW/829O3rgbfxNv0k296TfjBm/o5ty8m3+LbuktvxW36tYomkW76BTdgi16Rb8QikExKsbFvPgrlGJRLAtQmAUsUGEX",
    "68IvgmJb7ItjcSmuBS7uxaN4F+SdvYt3+a7etbt+h3fr7t6je3rP7vie32slUbZKqmRLoRyWk3JWKiUozRKVdrkrD2VcJiUuy/JZ",
    "fspfST7aD/rBPLgH/+g/1If2AA/4sB7Ow314j+hxeVwf+aN4EM/Wk3p2nvxz+Jw8Z0/lCZ7oaT/95+55eMbP5Imf5fP5/Dx/T/4l",
    "vqSX/NJf5gu+rJfzcl/+K3htXuErejWrdtWpuhVb9apxNa3+KqUClVnBClV25Vfbal8dq6g6VefqWuHq9n8+6Tf37r8Hb/Etv9X3",
    "8m284Ru9rffqvX6f3pc3fufv4v14v97vd+1DfFof6iN8hp/JZ/YBH/ODPvZn9zl84k/ywZ/y8/x8Pr8P+WW+/HfwFb/SV//Cr/N1",
    "v8E3/F6++bf2I36tH/UTfsPf5Df7gZ/5Q7/d7/CLf8kP/8rf8/f5/X7/AK17TfE=",
  ].join(""),
);
