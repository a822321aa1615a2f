"""The bitmap font of simulated footage: ASCII (16 x 32) and the Chinese characters that the names need (32 x 32).

1 bit a pixel, one glyph = 32 rows of 4 bytes, deflated and base-85 coded; an unknown character shows as a box.
Rendered by ops/sim/make_glyphs.py from Noto Sans CJK SC Bold, (c) Adobe, SIL Open Font License 1.1.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import lru_cache

GLYPH_HEIGHT = 32
_GLYPH_BYTES = GLYPH_HEIGHT * 4
CHARACTERS = (
    "".join(map(chr, range(32, 127)))
    + "年月日星期一二三四五六七八九十零〇帧号路口广场学校门前后左右东南西北中上下内外正侧山与京步行街入镜湖"
    + "公园师范附属小第弋江赭火车站长途汽出人民医院急诊体育心滨观景台轻轨换乘大厅社区文化地停库通道河桥隧高"
    + "速收费岗楼电梯厂仓商业摄像机枪球全卡值班室鸠片超市派所村委办事交警支队"
)


@dataclass(frozen=True, slots=True)
class Glyph:
    """A shape: ``width`` of its cell in px and ``runs`` (row, first column, end column) of set pixels."""

    width: int
    runs: tuple[tuple[int, int, int], ...]


_BOX = (
    *((row, 3, 29) for row in (4, 5, 26, 27)),
    *((row, *side) for row in range(6, 26) for side in ((3, 5), (27, 29))),
)


@lru_cache(maxsize=1)
def _atlas() -> bytes:
    return zlib.decompress(base64.b85decode("".join(ATLAS.split())))


@lru_cache(maxsize=512)
def glyph(character: str) -> Glyph:
    """The glyph of one character; a box when the font lacks it."""
    width = 32 if ord(character) >= 0x2E80 else 16
    place = CHARACTERS.find(character)
    if place < 0:
        return Glyph(32, _BOX)
    rows = _atlas()[place * _GLYPH_BYTES : (place + 1) * _GLYPH_BYTES]
    runs = []
    for row in range(GLYPH_HEIGHT):
        bits = f"{int.from_bytes(rows[row * 4 : row * 4 + 4], 'big'):032b}0"
        start = bits.find("1")
        while start >= 0:
            end = bits.find("0", start)
            runs.append((row, start, end))
            start = bits.find("1", end)
    return Glyph(width, tuple(runs))


ATLAS = """
c-qySO>f*tn&%@;!{LLGp~f6mz+{nX)S+%uYRq9Mm?CRVdz`OeU=MTb^cuUS;cPJyIT-DsQR=<T0JYYBgBf5iwdg{d8Vy!;SXgr$VBK~I35@p8D1}zQi
iYXr{-20oCP}4a$#(VhrtvFf@|_X!yv9QoV}CdwFTWnWF0ykB<#6k-`-
w+w2H|pk><=GU?yN3ID#whmerUP3&R8~EFc`L3ePDUthuW{%o?J5~3dVvG?SS({%o2luaNBs;hLw$#U=`n!(h^`jSM6i}p??J0BEU5#Ai_O{AO#z4S%P
~=Ft9REamlJ}$)+caP0=?BeW11&dsAT@$c}RsjOF$FJ#XX5<@_ig>Kp1S*I!=a{G4EI#1gvO@aA>bV?f#Su+CVx4f>AD_P<pA8?<!AlIyR}aeJ8zIB48
9$1fo;2Ktbx+iSnSv3S`%Hf8>@ZT{7CxOC&!wVUVqy6&60FYbH_S=9^vU~HJYD8twK3>!RfGUB)}#yk3;D|h`4gAP}jFwc#38v8zMU<7?0`Ihtw>TPIy
+K=|9<Cy-x$(X0}E31P8H-36Ig!UmjS#u-Xi}nq0-
3hLL1RbzGVhaOUlRB_n&)p;KXKV)+CvjUwZ*+dOIDd@uuQbm~*HT#9YvikN%gFZnmUVpJ!hTt4k0EZ@{&f7FgX}wZh}7bP$dQ7qS}<>yE;sm)&(WkFvv
m8${yN>f+PQB-+_-<*PT&0gsXsaP7wEU(I~?|IyX&7|{ZrSzTR7JU=M9_V9|Tw~O51KX9skX7W5#Z0yqPiA9P3N`<GKEEw(myzOEr8ylKsH~9|Yk-
=h8M2`XP)vx*%@b&kvD5+LwIrQM5$Y#I|jMSGbO6jsC~BD<d~X3VR%p|9*A)2kZY&bPb=>{@!x!3ZK@S**?#t`Dvi<M#s<G0^jZPi9hetr5~zm-
}iao#4aOpD;K@lBG#erw2aneZrcYRaX#L(y^x=~OLTuN|DJ05xy|_ZW5yrp{J`jQ$qF1y;bizPlW<JDmqX~rb?CN``C*7yIAjqB!*v#>LlzE)EPA7`Kj
NNU$?mv8CY>u&KzCG5FMC(CLDT0pez&%EhZvCU37uaOSv_3$J?RDw1FS`jWJ=tu0W!Tf<|qL;-
bgs;d+gTN+nDu|jktrp2hJwWtR1?M{UM!6<Epa#kla~xf77HEo!_I{6}V&fBj`B28=fCs$11czh5LJh{R`Z05jaE>+5TN`gYDnW?EdCBH`KpPzm14ln>
x2p(_J6e$EX&3%JX0M8k*cx{*3S8ay?u37X7W8WDOequqEt0)BbcE?}q(v`}K0Fs?GbhFK#G*-5kiL;6|U(2jT>AJ+(4VdW8JdoBAKM{vf}Sbj^r-
Ac{qBykC%RQcg!{cOIN?Yvi`|oBFEONjJNI_!H2Tp__aZu9@_<A;9=?l!;_7?^|9ymF&eM%i)=12UEwsWcxJ}$#Tzfv+>VZ>6kexa8B$nc19dBc6tDgu
|07P9s|f?kvJMU^TzRCVeLybv&XVF&Dt_*pB8SpZ7;jMu{$5=f4A&k*06mvp6c(7bI|th6OB)L|Ch9Z9W%Dg%eWo?nj8Y@LFg;vtR?yN?f?AVFS&n`&D
6<h<m51D_ysrAf1b9nV=%MC_ZI2(#O2;izn0Dy&0JC**R=woU@=cX@fp8iZmg;r%&tEta}}S`{#*oVw*j?#t#>};{x!x^0aBtqrfXM<?PK5*kwp;UB0s
|G{EW7JdDHmc%e8?MM~ZDX*f~|~YeUYyew4FU;N???(~YDjiyEUlZ`l5%L!9j)|2lSlw_oR4oBp};(P^DuxV%suv&Z&0`iAGPWte>Vk;^Ai9-
{XDO*`vF4$M=ZcKkK{#-NV%My%z8)j7X9)*=xXP7Gsrj8<Ok2D;C{enixAo3Pr+5jXS4cRI)LSUdmRoj<JSlIA?<<hR!^$^GS)-
j9TrFV1o09JCu(rmbkq<C^=aopbeR4!DsQ3-7W2Z$7nNZ+-@id0inFb8fvqpzE%Eg2d%T>YTXAzc@QdIYEN-
PF(w*lppl3f1b<I*H3C+yY>s}Tx8I}>CM_Vcv{$fKRWkU&&Lzr+Wv}`_*rv5;ah9_$dB-Da(;g~{F!az+OCdVzPISmy#H2y_G9nAk(2h_d=%x}n|Z&qk
tz!YA8`L@z+P$T+7vo>&5!N>EFJ&VBBxX5y=r1N*G9SS&!nB(i(HN(aCw9<xac1lA5va#{HKjMkF3%E*X73f?T-
Gb=P^E%f9><vkbX_1_2avFq39|Cr{5yyW1;UhU4Fsf<_nY5&Dq3mE{gWMX8if7?vXd<AL_Z=kNxc8pwD*|Y!{)~{;6gYb$vee^ZOY8*PRn4xqhGijmyR
S7ykt9Z{|Ed!2V^<{(bDU@CVzUS!aH*%XRBaD8?IEdtzw#{MX@=*}ua2pY`PjZvKro>+rx}^l|;)mFJ*XaBcZ_^#eDZe^@Gi@%3r;|4seBt8#+1EY~q<
jp>g%HXS;2Xa4mgKa)LWIa2Jvkh6m+ILp}&j|geWB%39a17LF~SM{-
<c`jgN?=$G!V=EW1BoFY>{VzIoMs?e}yg<Lv_N}~tYS%;vXM2+y<|Ui;D6M(eEAjvzlK-
C1>n@S0R=rm(m$e>X7q?k@jC{FG?#A!GPg?ElblS3exj=5)f8Gbz*vGV)Yqt;mh}-DXudR-GSh5?}H(mJ1cHNo>2ZuWZ2(ZEjF-YJ5{W0)rpcA@eRaG{
*v`CJ%2LX<kw`l&mY90RJTH8o37t9iX7;LdBAAyi%a>XRAyD`qiV_eE7*!IfvclTRzEN@>jzMnJnks<=Hg~LYRj~i{(3<S}CMNRYE{Q;2`1o{jVDdGER
+8?B;D6^u5e%oaW>V18m_D@sGFulDxOhu^EAksLNPNQI2jKs7E*}v26rzUPVN7Nl-pZHU^Y0bwRtJ&t=cK?`jqi<!CPjL+xL%O+LgnqjK`ZG#Tizq!Sq
T*2z>8wZym86?FOCt%`g6_F#+2D$Mr)#L08?&J8H)A_l!|C25ZmEl4(gp>W?%ZX~<$-
sb_qLnvL;nXBC8THIIsPe;(=V(63B1rPSZxCLp5A5btLq2f>@I}5WD%}Asmj2Pc~c)nvDo^>?S~+35yN9h(4K)oLD?)FFFjJ%4O$1*aHO<9r)MztZ7}z
q3!|w_3*f(|MVMz=D7I}-
Qva_qwszh7PpVmqOAEn^=5_hF9)A`1JokMe{XqinDMR!WA(B~b&dOcU|Cfx3w(j}RqL4;iKug};_0(f7^kjJd?elL5TF2i$H~QZ`B!nSZ&JgD$d3{|p?
X}L>YSUJ*K9qkSo`+>Iu`<5^Wdi0N#ue!ju7h0A7)JluzGJ#6(~T1BInDL9WUHr5|Km7xJUT8N-
vs83qUfISjeJK?Ho)!qmN!*#|8HyZ)be6EZ@_;iUZsCJel_&uru1Z{yzyJ@?da0m$w%I{T<w-+TxrjnZMm>PMa|rQYS>+pfS&AR-zbslRjy#QEdWVDq#
)B#SXnksRdoMUCDmI{<;j~w_VU1y<r{gWH>x+~Mx}vDH}>&+uSN|w-l<^%GU838vvH-
<9&|wO@}yK#{}O&n>TkwX$65@4#)KDu3=}Qc_46F{u<oW=nkB5Mn`><KJt5F%qEZgYVRSg#VwoygHq|UUhCH5BCDxUk19to!?;VG{cM@{%5WGnF7tc~&
4N@_S(yR>AEKk!drqi&e^_qt^=ZCOq+nRaptcWLix!4&izCBU=V3K<W2eNB3Yc{J{N^;aAU1%l^iuq(=%T_H5K1}_Iv^5*<Asi1a#vywxc5r_?PRD7PX
FAW5(<8+vM_NqsLLA6c9Lgv-IVywm=|2VfEKl@#p8S0#v;UgO$1-
8W7l2E&>lkgieOB<@BOF&2{A(6^E&aQoJ7xx4F2@5HM>it?f=~mtD2y>uZmhL11p}A(mO7Y)ATs!UOa1%uWo*Hg09^Yc>i=8qszYyX1K`&vo6o4nHm;*
ZbKED`2e!SYAL2X>A_B`tAa$%@S?eJz_v}jB?sj~i&NCpC2=9^Z1Kw+pr??9sQ(RXH=^?knG6E^Cd!5>|rseou^zoLSzmfNF`c`p=@f~$f#b5+Nunrhu
6ZZ>fSuKJ08s`s|oR`jds#p(rM;5+k^puH@U97C?xVCq6EWN$sobOFB?vIohA5jcl#DPlvK!x{2zQ(#WS(o{nZh1?GuCAkBL+!&6_XjB$YQHKi8Gu|Es
@Z~i84RFdNme##*fXMO-7m;wG+dBA1W)t;b}P_8CHk|xEq538Z|Z-
OU`v;=4pP{}A}O90WETM<3@9*Y)l2q)I!sqYks=zkY^4ZUz#23%Gr(y|gO2}qkqfp9I_EN$ZTsFNb<+V6@*0p*pqQvevg>l)c=_V^>t44jNTK3C@?|KF
;JXlr9o+8(f5$+6b-g5gqy3jmS}$qSVVivD3kCGh4~n55kB0sz9{Oc43<`m<cxULV+e4_58jO2U1N~pm%<_2*<Kh_Tl^t-
1+ape3vH|Wl0Ex(0wv({z5dP^bkUyD;oXw!EN1^~2U!V{$`C^rh1uvS3T(Ce2mO#<q+)z37)9Nk1tKIfX+JsMPpz~TZ*IguePygdeLXqiERA*toIuCvI
*m7)%9a|m#1oWHyi{l4JUxxi45Br~~upfc+VbRx5ivEM2>WeY>a;}oQ>u{M5IzRVUto>j^WnZ4qt7)VxJr^Ijzb3<2TVkg_8*SY6LgU2*9&Z#zH}3tae
8aWl6CCFjA2WWiE&29#E+CfyAM2RQVwB0zY6b(H$Tef<JM!o4Q(mzNEz2+78@BDyy6Jw-_xE!#+0TQ?L7wqL87I4JHF=H!y=5l_Jv$NTRg|lgR&{jq|8
)9kRq%cI`yiN9RCaA1=^J6&^*YZEAKW{HZwdtb(*XCLHTbiu^00=Ckc21W`Tg^42^pW1Xsgms-j)$e#0We^TYi3E*K>4-
$Z$>oueMAuwlYw;ze!f;FM%NNdx2YK*oKG633aFQWLyvJ)1>`CZ9T!|Fb}A@!q>R4MY1FJ5Jpi)-$5OHQ!Yv;(knC8qx=Bn-
x?K=@c&6Gd1!kOoB^$1#ZOhrPICk_Wp<8xCfsSEa|(-
0leg$A12&xyZr!gQNv_W%FTk7WH)1+{DR%ZtAtvQ*(VmsPi=fT#iz4}26anCUc(DRhKNwc3lOn?UE!qa_`rtNglf7^p7Iz*V795C&uR_bq5dP4dXqbX0
MaWKzRW@wvpRaDC%_7@&E}!S=b}p~Z<0bc4;R`vuC(wpL!*`Bd!OO@LJ5k;dUJ%cFr>&f35tPQGeDFToYvMh`dUIMaU^OQis5FWk;WUlX<8)J3X#zIYm
dVF1J9cx<&w$vL*d$cUHen$xKHG%cEf}Piaxh4Hz?<_~!M6t*Ai6^I#Rh1u0qkF0<xA5*{drcPsbh@(bIYmzSHR~Hhw!ye5O?4&+hKZDFdc&g1UrG|B2
c$}4gon4(A^N76Sm3^StNE4t706-5Mm$PqZ~;4sUMvjfm0&ao6}rJQ>izP!NK!#^ANm#j%$LPgU#3fNpGHfi*3FG-
+*V1uMNrcmjK)DOC5Plwrf=AO=Ktct>;h~diyt7m>l{?iEM`Nn%VD_>Zhj`eD?{g^U2PUpRNDTFw*}QRKuvMhAE*vy{e&2b+_pFGWI0jKad>yolo`^At
rlDczarSxemO%@Ij0K5R68aC<NF)Y)ychhdbrsA#PLKy*7^-#SHp&W^?qvm>$b?dLY;LCY}7~*ua~yA5^Kq<%~$q`Uwu2$zc!u#n0deOm}oL*;c-
{ov(IZWJHsy0<A0p90dLxZj6bZbT0vdE^5sm$fRmcXg8P(lW`_ipiow=x}{2lByw*haZhM0X2EaQAt>T#@!H1Iy<M{Zi-0@?G00>DUoyh>5xdn`-
@~#VHMyc@kI>wJwj*fX0K{Mb?zL?1fLI3+2!nTMKa0k1@R{o6iOSwVE**RrC_aoeAC(2{-
Z06~KE&gyc>FjGxBg>R{K+sY`oM?Y9T?r46;E_lY=EDrG`vpnALlZM?S=jr8^rcl3BC`12L1*=kg+(B12J9LM6!oeoJh71x}5YlS3xe6F!qo1H))jBru
|!O>hR^c50h_b#QqfK)Z?)pgUz|^3;xoT^WQ%D>mms(MN%%H?FMOwhgC6n1f5oMmZyd)Pa$h*05SqLJ%epu^C+$`u|?XPe(kBA>?uzn{(-*>OQ+x|9L-
qoxB!~<rtnFQ>}7Z7(x_c}M>eJ0Q`laOz!pGjAH9~n>QMEngVL+^L9g&M8@6YDQ+5}AV#H=F?oo_&BE`;u;?F0=t*u@Oqd;?4-
?GmuS6vKq{~Y(@NFbj4>y4c6Y$*N={3g`=yD;T%id6jPVlCLyraqPWVFW@PZ%wp)>w6e$f?|I11IfSK#eD_nxBA%|=+*W6m5TnTQkkpY=_eI+w1rv_c)
5j33nI$@4St8=^*bEucNkhFltFpd+TWG#_~(2Kf1SqoC3NS8uNfm<5(5q2D}$!cu!~x}94Xe8$UTHuEac9E|4E(`d7$t_HTj;6`M;GV^$#tbUbms4yKd
}K4H%1{oFfZkODv-m=)YAy`OQF7&!Vi_{Vu6?%4Eh7TbQTP)s_C2d(TUR{>9D;_ESY#v*-bU@x*UE2kvZyp&IcSoQ>Bq%64=#<2p)vDtf@yn({(K3-
4$C6ifnNE71cJt8daa<cIyhqRkhU<Pg_|SU=gX)F!%N6IUM**e<FZN5?X$**lg|@8DOFckoTbf!O{gN_ZK?UJ(tvB5cOLF1Ok<>Y+3UsE9ynx}H3vxhJ
sVs-~LrT=csYf0~?=lKkm37f;|Tq<^dZ)Gy-HPe)lf3X?K4^OlXz9g`IyTNT4@Ww2qD?CqWBY%(Q<Ti`-
w+4I3DdlrY;FGqK?G5UG?EH^&Mcn9$u^t_DMxGWKW6g1DE`CIrZZ{WR~ahNf&55H-
rV12|=w>w4oJ>0A3sK<|hZmI1ikw8CX&`$=>Aiv~qrQlC<A)Y9MpK1}Mg&3uU$<rfN6n|Fzjqz<d+*y+QXy={H1KjjbG36mtBYrTid1=*uP;}e<ec7^k
v>dk|!ZL-4xeM?L`yh%rRoHkqqnG=sM<^d-8=!9y4}mB}Y?8v!Nm(>X??h?JiItU<Hy-?GJQ%!){>;G#X3hY<4YfP)K+n`K2-
5#WC@Qrj(C#=?0PY|jxHZp(a{T6u13{qO;SZNS;Z5>L?5ijk>ruvvaKuJ;!zHhvgI&zt*5oP0v+U`Mls$TtuAaS0Ll6NU1k+ck0Nmm2gXznZ!{%{Bi2~
YA6d4QBY7qbId=P(rJQ#5VM8S5s9-wji7oQ4RTKm<>?_3xo-8!K9U$ZV~|F4)g-Ic-
qj>;yJB2Hwnn#c$9BE*%B|1;{_V)}w2UW`4>Y3^Ak^V%R%@}~XPuU$8{WSa}7XM)&nV%i@bqDQC%F?1iAD98gDs6>9ID)rg4LR@wVze-
_SxlXF&XH$%o8pw?(`YfwKeECz*L+lF5Ie9(*$>y?8WMxg3C-16U^en!5Vu&1BX-
Ue5`OoyjoGIcoXS35h0om**&)yvUb9Qv}l1=w4$K%p4g|=0Txn~p4!MQT$qIp0L#6)EkB(>r)qZm-sM3$d}lSpSZ&`|{GEP>!kKwsf_2xX2X`OHZ$hL6
t5IEI|Awx+--xs^j-In>hmD6{PN1@Ry_K2$){Uv_**%hrSA7hzJJm~B_6cB`%@Ie#r_+id%wOrXmno~J7urlgL)y!X!)T*!-
db7Av5*vR_+rV1u8IWUefEEJ?N_sUH6Om=Lr<OyIGJI?1=yYH}sJ}Fv2R}ubusQ=lifr6zF|CLVp(V|*)K~jLy{x$j&dWoH3+)k^~BXT#lpzU_q47?QV
=|2nhr{7;Zo_BzKnn-r#{DX}uIWv)F2+cgg-DHSBp}R>XN1S|~!j`5Pzo&weg2;4B<WY&}v+!gz?6GLg_*R$uKT8UwyYm(E`FZlF&C57^o2whS{*Ie3+
;ih1u@4OOW)<UQrV^b%qD6@~knT;l9MGfO%<-
CeUKi(4Ei+=h2k<ks7#|hE_*f_76P1lCS&d<bAjXf!ntf6GqHR{dz!6#CpN`?LN+Q!u<4gJ1Is948kn`OlJFbClJf5XofP{FK@&NoBz@ORL6Ku!NcXe?
7Ol1epSjOe*h|9q`B?5Rpf}EEo{%hsGLPRbuZ$NELe)Mz50J(9{LjiOSK{+<qUR~jPMqu5SBsZD!a|oDm@w9qr@SscV=vjcVBH((9)=Qzjnm-iaayMm-
59RE`RQS+6KGw|%=p7g#^JB<Z1Tw@lL;}`EM(ze+)A`cG$W$TNg2;7~Gikd3t3jpW0QU(3d60_<>?bo1y%uwPcsC&1MPJlBi&Dgk#T@!=fc1K|se@OWs
u_Q-LqB)p&%4~q2Yiyp-nLB0-+XTSfa7X!k>k~z_wAz}cB(na*GzN#okPDH%Yws7y)XVH56mYY_qo-
5bnaf~bzkd2p+_JCi63eK?f~ZKVY&C(g5hfr16E6`t0BxlqE_uwqq4TY_BA@0=G(>x0427dtr6?%k-
2uNN1{0&k)P&b??{QM!Z^<{UgRh_IVzLwqaypOBlTE1#z*Q4Ks6YAvZweqpc<=P#FKxGIK5MVk-SRa=VUrL84fp(b-M8nI^5W+%8l=<;{MA--TzIW-QS
5<lfT{y@8{=wBmWDvQ3c>BIMW*^e_3pth;rj3d6^tO`93*3%kS^}T!uo(FxX)sZaI8{_Fo5U6a>A;|2K0&)q;ACy0NTVuV>==q<}0q($G@>CK*Y&ss9+
v-+&mR|3i~ujN#lN)-nD!r9C~8kzigotl1zO64^Ik7vm2kfRAV7zab`rZ@2Sn#h-5!{5N62zYB-KKZPp^_2Z@E5Ar`u9XLhJ!>Tkqay(XgkP+H(ss{i5
i5d)_f-
E1v!UsCRC<+Khe{q#L8^WP^_!j=iX=#f29>d9dgd3}~AM`&|ur)5`848nEiPBb{rEk}pymGHd5%nOl(NBs*J<&9ZgRcKO+0Xg*#IpM+XH^CpRH=+|ddj
1@&9poBeObQdvf50at!n>4r2PVvDf(S&KLA{5UuZiHW?MQaW9{n!w!Mpef_eQz{RVnY_Gj!r;M=etlV^~<SCE-
!YF__mY5*&l9O2#|n_~M_A$FgQ#GxMs{}QbRDrJdIt&RV?s(g(7NcR2`GWW#<F*=P2nsXgvoREIp(Lk<Wm3ylDqQ-{-t!b@;fnK`Y>?1?p*gffz;m-
CEZ1G%$(LduH_YG=&A&=;~i|pJ1sY&!8<<d_DmWu<&@qh*Apt5-z(w`Z%!Plecu`Hu6#$^aymh$c2!Z!RDFwp#$RCzLBm-wF_RQK8?xLA2`W&P{C27aF
3bN=*bi)K72muGY6<U?B@j^-3s>KcgF(^h*kN14NPYsxAUl*8z`+KSdoF)z`7y@uszjr&LsEobNzNV%yyONId?-
OtJeX=G_F6LbC7dIPL^q3cENf+z}yAoVS#?oJps6v4l{pY!jMoWrvumL2D+=TGh|>NrbBAp}GG2Yqo!Fa!Oz;Cq1WUK^+)P9g3qYDDivD(=4+ifl)VWE
<OW=OQ>zB0&uHt}5dq8pRL7mh)rkJPu}5_sbxojQfZyBH#LBnY9TC?mq)neJ=PzU-IJ>ksOC2J1@n?c_F;FS_Hq&#nxsn!gosi^qm&GEJX6nNNh!scv`
NCpThs^b>knJW~}lyh@amrNZvpu_Z&w@xgbuD@&L;NTK{e@zyH7X@~8WI`J?^4@4^54{9yco@D7Py>AeQ8z(2BLQTw#Q=4wK2InV~<bD5nT=h^u_;_yA
1_a(bnid{2Dr-Nyg2h(vLoQ?D3?IcfrJ;}5GHpw4Pb_ogC7ZVwRh~sagHbUe0ino$)1B}Ok&P)~MAOtHkPI%ye1RFgKhbyc6C_BN(KYmt-
?On~iUBzz&UvY+5m+eY^`a0+5ui?x5R%g{WMHUarG#ZT93LNELxoTfBQ?U8}0A-%%SMC4tKslFv3E7|L@JasfSJk(FR8_xfz2u$dFIsg-
`Gtq_m)17%uKuTeo3w31r$(S$tSjo8MC|ii!x^DKEPrqPp~?S7HU`Q~3{>#vmO58!;~y9IkpJy|e@Xcm{5FV2j%L|!q7f@C-
hZy<Wcf*%y|nZPNBJ@Y$X-
qrwke4IX9U&}Jz~!wrk3n@oM#8)d`l$dgCr^8=$CAelo$1HyMLO`@6De%h4(#w@kSw}%Ndc6MD?z!KF+c^s>`3FTVZuBrH{C@M)dMwcKQ;$0*AW)@PB|
D91yDia6iXy)_;h2@IQcGRK;M6r5Neqpun}CS7~%yrQyG==GDPN_&#g%C-m#jklA^oOK3a~ZCEyxU<XAL_b+hup0Q&DLa^F+GspZ{^u4Np-
m`5qi&6sP62RZg>3Q5U$n#WZvwdZ!kSo1eGt<L4iop1sW8W$I6teOV45820y+$8+7jkW#=iA!ryK|6N&R6nX$4<@>lwMZ<jQEp02k4kU2fsCbqU@O$en
@g))|lVZp)ZOpAM%HQF93J^^S@#KqwfI5^rOP_A0g&^l=E*M!X7`&Mf6Y+el*l^IxM1eIEsqlXmvOY@2(BI^N+)125mR{i!zy+w}wmmLKB2NvjqbmaYz
fTuzXI$2&JN4120!0fb*zQA=MD}d;Qj2=&A4L^Tu78H5UohUC`Vzq5fRK_JLC+ic=MoPYlV+U#O?wZ>p#H&(tGqM||EoX5t8P^3|O7qd>EkWurbDdANn
lntbka#?N+P_jZbGGAZLg7NKv`Da|ospTUgXTw-D7eaQbyss!-}Jq_5HdmSu)HxAA@C!kmtJ_%Us$3hDtf-
e^ZDG`r?G#Ulbs0gC8@S~q#je7<Zk`BqsW0q{sSjI~h!%hsk(=W?(RMVbqyLhf)+xSBF&69p@xfyrn>c`d|W$q<h@$&fRLav)?6Sb@7)V7`zy;mfEKPc
ifP6uhUem8PC(4dn84eZN=y%}T%o&`MR5}s;7y|dELzdVf4e?(S_Fe~BOA%=RV(*El_dm&`<gOGzC5=FIHL8(g?ezn@nLCo{Cjc3u9eQ(W8Nv8n3YvlX
e`iCv%D$p0U(!#xbIyNzjc>z`37D-
{Qljg6oB18NgU@J2KR$BA#^!#OMiBiW9Xa^*FQ_=Sr>l`77wm@bnE4f*m%gs0EGCG>(kvCNlVpO0b$VwEj5!~u9y0-|y{vS<m0Kx
"""
