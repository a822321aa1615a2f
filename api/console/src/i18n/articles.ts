/* Citation keys of the regulations (`N16`, `CQ25(2)(1)`) as people read them. */
import { currentLang } from "./index";

const LAWS: Record<string, [short: string, full: string, english: string]> = {
  N: ["条例", "公共安全视频图像信息系统管理条例（国务院令第799号）", "State Council Decree 799"],
  CQ: ["重庆办法", "重庆市公共安全视频图像信息系统管理办法", "Chongqing measures"],
  GZ: ["贵州办法", "贵州省公共安全视频信息系统管理办法", "Guizhou measures"],
  TC: ["腾冲细则", "腾冲市公共安全视频图像信息系统管理实施细则", "Tengchong rules"],
  TS: ["唐山办法", "唐山市公共安全视频图像信息系统管理办法（试行）", "Tangshan measures"],
  SZ: ["深圳草案", "深圳经济特区公共安全视频图像信息系统管理条例（征求意见稿）", "Shenzhen draft"],
  CTL: ["反恐法", "中华人民共和国反恐怖主义法", "Counter-terrorism Law"],
  PIPL: ["个保法", "中华人民共和国个人信息保护法", "Personal Information Protection Law"],
  CSL: ["网安法", "中华人民共和国网络安全法", "Cybersecurity Law"],
  NDR: ["网数条例", "网络数据安全管理条例", "Network Data Security Regulations"],
  APL: ["处罚法", "中华人民共和国行政处罚法", "Administrative Penalties Law"],
  SUP: ["监察法", "中华人民共和国监察法", "Supervision Law"],
  ERL: ["应对法", "中华人民共和国突发事件应对法", "Emergency Response Law"],
};

export interface Article {
  key: string;
  label: string;
  title: string;
}

/** Unknown keys are shown as they are: a citation must never vanish because this table is older than the server. */
export function article(key: string): Article {
  const match = /^([A-Z]+)(\d+)((?:\(\d+\))*)$/.exec(key);
  const law = match ? LAWS[match[1]!] : undefined;
  if (!match || !law) return { key, label: key, title: key };
  const [, , number, parts] = match;
  if (currentLang() === "en") return { key, label: `${law[2]}, Art. ${number}${parts}`, title: `${law[1]} ${key}` };
  return { key, label: `${law[0]}第${number}条${parts}`, title: `《${law[1]}》第${number}条${parts}` };
}
